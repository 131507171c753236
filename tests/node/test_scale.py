"""Many volumes on one node: what a call costs does not depend on how many others there are.

Counted, not timed: the programs that a call runs, how often it reads one and the same of the kernel's tables, and how
many of the node's own files.
"""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.attachment import host_tables
from csi_plugin.node.reconnection import Reconnection
from csi_plugin.node.staged_volumes import held_volumes
from csi_plugin.protocol import csi_pb2
from tests.support.csi import MIB, capability
from tests.support.devices import mounts_below
from tests.support.node_services import CALL, attached, node_service, staged

pytestmark = pytest.mark.root

FEW, MANY = 5, 50


class Watch:
    """Counts what this process opens and runs, while it is told to."""

    def __init__(self) -> None:
        self.counts: Counter[str] | None = None
        sys.addaudithook(self._note)  # which stays as long as the process

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.counts is None:
            return
        if event == "subprocess.Popen":
            self.counts["program"] += 1
        elif event == "open" and isinstance(arguments[0], str | bytes):
            self.counts[str(Path(str(arguments[0])))] += 1

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        self.counts = Counter()
        try:
            yield self.counts
        finally:
            self.counts = None


WATCH = Watch()


def cost(counts: Counter[str], states: Path) -> dict[str, int]:
    tables = [count for name, count in counts.items() if name.startswith(("/proc/", "/sys/"))]
    return {
        "programs": counts["program"],
        "mount tables": sum(count for name, count in counts.items() if name.endswith("/mountinfo")),
        "readings of one table": max(tables, default=0),
        "states": sum(1 for name in counts if name.startswith(f"{states}/")),
    }


@pytest.fixture
def new_device(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes loop devices with ext4 on them, each mounted as a staged volume's is."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(MIB)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    found: list[str] = []

    def make() -> str:
        file, staging = tmp_path / f"disk-{len(found)}", tmp_path / f"staging-{len(found)}"
        shutil.copy(image, file)
        staging.mkdir()
        command = ["losetup", "--find", "--show", file]
        found.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        subprocess.run(["mount", found[-1], str(staging)], check=True)
        return found[-1]

    yield make
    for target in reversed(mounts_below(tmp_path)):
        subprocess.run(["umount", target], check=True)
    for device in found:
        subprocess.run(["losetup", "--detach", device], check=False)


def test_costs_of_a_call_do_not_grow(new_device: Callable[[], str], tmp_path: Path) -> None:
    found: list[dict[str, dict[str, int]]] = []
    devices: list[str] = []
    service, context, _ = node_service(
        tmp_path, attach=lambda **_: attached(devices[0]), detach=lambda **_: None, heal=lambda **_: None
    )
    for number in range(MANY):
        devices.append(new_device())
        state = staged(
            tmp_path / f"staging-{number}",
            devices[-1],
            host_tables.device_identity(devices[-1]),
            volume_id=f"volume-{number}",
            path_count=1,
        )
        context.states.save(state)
        if number + 1 in (FEW, MANY):
            calls = calls_on(service, tmp_path)
            costs = {}
            for name, call in calls.items():
                with WATCH.counting() as counts:
                    call()
                costs[name] = cost(counts, tmp_path / "state/volumes")
            with WATCH.counting() as counts:
                held_volumes(context)
                Reconnection(context).look(0.0)
            costs["background"] = {"programs": counts["program"]}
            found.append(costs)
    few, many = found
    assert many == few
    assert many["stats"] == {"programs": 0, "mount tables": 1, "readings of one table": 1, "states": 1}
    assert many["health"] == many["stats"]


def calls_on(service: Any, folder: Path) -> dict[str, Callable[[], object]]:
    """Calls on the first volume, in an order in which they can be made."""
    volume, staging, target = "volume-0", str(folder / "staging-0"), str(folder / "pod")
    stage = csi_pb2.NodeStageVolumeRequest(
        volume_id=volume,
        staging_target_path=staging,
        publish_context={"connection": "c2VhbGVk"},
        volume_capability=capability("ext4"),
    )
    publish = csi_pb2.NodePublishVolumeRequest(
        volume_id=volume,
        staging_target_path=staging,
        target_path=target,
        volume_capability=stage.volume_capability,
    )
    unstage = csi_pb2.NodeUnstageVolumeRequest(volume_id=volume, staging_target_path=staging)
    unpublish = csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume, target_path=target)
    stats = csi_pb2.NodeGetVolumeStatsRequest(volume_id=volume, volume_path=staging)
    health = csi_pb2.NodeGetVolumeHealthRequest(volume_id=volume)
    return {
        "stage again": lambda: service.NodeStageVolume(stage, CALL),
        "publish": lambda: service.NodePublishVolume(publish, CALL),
        "stats": lambda: service.NodeGetVolumeStats(stats, CALL),
        "health": lambda: service.NodeGetVolumeHealth(health, CALL),
        "unpublish": lambda: service.NodeUnpublishVolume(unpublish, CALL),
        "unstage": lambda: service.NodeUnstageVolume(unstage, CALL),
        "stage": lambda: service.NodeStageVolume(stage, CALL),
    }
