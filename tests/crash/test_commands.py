"""Commands that a driver starts in the serving process: gRPC's threads and fork do not go together by themselves."""

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from csi_plugin.protocol import csi_pb2
from tests.crash.drivers import COMMANDS
from tests.support.csi import GIB, MOUNT
from tests.support.serving import serving

ENVIRONMENT = {
    "CINDERBOX_LOG_LEVEL": "info",
    # coverage's tracer holds locks that a forked child then waits for, for ever: oslo.concurrency runs Python there.
    "COVERAGE_PROCESS_CONFIG": "",
}


@pytest.mark.timeout(300)
def test_two_thousand_commands_under_a_live_server(tmp_path: Path) -> None:
    volumes = 2000 // COMMANDS
    with (
        serving(tmp_path, driver="tests.crash.drivers.CommandsDriver", environment=ENVIRONMENT) as served,
        ThreadPoolExecutor(volumes) as pool,
    ):
        requests = [
            csi_pb2.CreateVolumeRequest(
                name=f"pvc-{number}",
                capacity_range=csi_pb2.CapacityRange(required_bytes=GIB),
                volume_capabilities=[MOUNT],
            )
            for number in range(volumes)
        ]
        made = [pool.submit(served.controller.CreateVolume, request, timeout=240) for request in requests]
        answered = 0
        while wait(made, timeout=0.05).not_done:
            answered += served.is_ready()  # not each time: the machine may be too busy for an answer in a second
            served.controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=30)
        assert len({future.result().volume.volume_id for future in made}) == volumes
        assert answered > 10
        assert served.is_running()
        assert served.stop() == 0
