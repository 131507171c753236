"""Many volumes' lives at once, while the server is killed again and again at moments that nobody chose."""

import random
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.devices import loop_devices, mounts_below
from tests.support.life import STEPS, Client, Life
from tests.support.polling import wait_until
from tests.support.serving import QUICK, Served

LIVES = 24
KILLS = 8


@pytest.mark.timeout(600)
def test_everything_converges(tmp_path: Path) -> None:
    served = Served(tmp_path, environment=QUICK | {"CINDERBOX_LOG_LEVEL": "info"})
    try:
        served.start()
        client = Client(served)
        lives = [Life(client, name=str(number)) for number in range(LIVES)]
        moments = random.Random(4)
        with ThreadPoolExecutor(LIVES) as pool:
            running = [pool.submit(life.run, *STEPS) for life in lives]
            kills = 0
            # How long the server lives is the test's input, not something to wait for.
            while kills < KILLS and wait(running, timeout=moments.uniform(0.1, 1.2)).not_done:
                served.kill()
                served.start()
                kills += 1
            for future in running:
                future.result()
        assert kills > KILLS // 2, "the server was too fast for this test"
        assert len({life.volume.volume_id for life in lives}) == LIVES
        wait_until(
            lambda: not served.files() and not served.records(),
            lambda: (served.files(), served.records()),
            timeout=90,
        )
        assert served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries == []
        assert loop_devices(tmp_path) == []
        assert mounts_below(tmp_path) == []
        assert list((served.state / "node/volumes").iterdir()) == []
        assert served.stop() == 0
    finally:
        served.close()
