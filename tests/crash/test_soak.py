"""Random operations on volumes, checked against a model, in one process that must not grow."""

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.csi import GIB, MOUNT, create_request, from_snapshot, from_volume
from tests.support.devices import loop_devices, mounts_below
from tests.support.polling import wait_until
from tests.support.serving import QUICK, Served, serving

OPERATIONS = int(os.environ.get("SOAK_OPERATIONS", "240"))
"""`make soak` has more."""
WORKERS = 4
ROUNDS = 4
"""After each, everything is taken away and the process is measured; the first one warms it up."""
MOST_MEMORY = 24 << 20
"""Bytes that the process may grow by after the first round: libraries' caches fill up."""
MOST_VOLUMES = 4
Code = grpc.StatusCode


@dataclass
class Volume:
    """What the model knows of one."""

    id: str
    name: str
    size: int
    context: dict[str, str] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    is_published: bool = False
    is_staged: bool = False
    is_mounted: bool = False


class Worker:
    """Does random operations on volumes of its own. Each method returns whether it could do something."""

    def __init__(self, served: Served, number: int) -> None:
        self._served, self._number = served, number
        self._random = random.Random(number)
        self._names = iter(range(1_000_000))
        self._folder = served.folder / f"worker-{number}"
        self._folder.mkdir()
        self.volumes: list[Volume] = []
        # Those of the controller are cheap, and mkfs is not.
        self._operations: dict[Callable[[], bool], int] = {
            self.create: 10,
            self.copy: 4,
            self.create_again: 4,
            self.snapshot: 6,
            self.delete_snapshot: 6,
            self.expand: 3,
            self.publish: 4,
            self.unpublish: 4,
            self.stage: 1,
            self.mount: 3,
            self.unmount: 2,
            self.unstage: 1,
            self.delete: 8,
            self.ask: 8,
            self.ask_what_is_wrong: 6,
        }

    def run(self, operations: int) -> None:
        done = 0
        while done < operations:
            done += self._random.choices(list(self._operations), list(self._operations.values()))[0]()

    def end(self) -> None:
        """Take everything away, in the order in which a CO does."""
        while self.volumes:
            for volume in list(self.volumes):
                if volume.is_mounted:
                    self._unmount(volume)
                if volume.is_staged:
                    self._unstage(volume)
                if volume.is_published:
                    self._unpublish(volume)
                for name in list(volume.snapshots):
                    self._delete_snapshot(volume, name)
                self._delete(volume)

    # The controller's part

    def create(self) -> bool:
        return len(self.volumes) < MOST_VOLUMES and self._create()

    def copy(self) -> bool:
        source = self._any()
        if source is None or len(self.volumes) >= MOST_VOLUMES:
            return False
        snapshot_id = next(iter(source.snapshots.values()), "")
        made = from_snapshot(snapshot_id) if snapshot_id else from_volume(source.id)
        return self._create(size=source.size, volume_content_source=made)

    def _create(self, size: int = 1, **fields: Any) -> bool:
        name = f"pvc-{self._number}-{next(self._names)}"
        request = create_request(name, size, volume_capabilities=[MOUNT], **fields)
        made = self._served.controller.CreateVolume(request, timeout=60).volume
        assert made.capacity_bytes == size * GIB
        assert made.volume_id not in {volume.id for volume in self.volumes}
        self.volumes.append(Volume(made.volume_id, name, size, dict(made.volume_context)))
        return True

    def create_again(self) -> bool:
        volume = self._any(lambda found: found.size == 1)
        if volume is None:
            return False
        request = create_request(volume.name, 1, volume_capabilities=[MOUNT])
        code = self._code(lambda: self._served.controller.CreateVolume(request, timeout=60))
        assert code in (Code.OK, Code.ALREADY_EXISTS)  # the latter for a copy, which this is not
        return True

    def snapshot(self) -> bool:
        volume = self._any(lambda found: len(found.snapshots) < 2)
        if volume is None:
            return False
        name = f"snapshot-{self._number}-{next(self._names)}"
        request = csi_pb2.CreateSnapshotRequest(name=name, source_volume_id=volume.id)
        made = self._served.controller.CreateSnapshot(request, timeout=60).snapshot
        assert (made.source_volume_id, made.ready_to_use) == (volume.id, True)
        volume.snapshots[name] = made.snapshot_id
        return True

    def delete_snapshot(self) -> bool:
        volume = self._any(lambda found: bool(found.snapshots))
        return volume is not None and self._delete_snapshot(volume, self._random.choice(list(volume.snapshots)))

    def _delete_snapshot(self, volume: Volume, name: str) -> bool:
        request = csi_pb2.DeleteSnapshotRequest(snapshot_id=volume.snapshots.pop(name))
        self._served.controller.DeleteSnapshot(request, timeout=60)
        return True

    def expand(self) -> bool:
        volume = self._any(lambda found: found.size < 3)
        if volume is None:
            return False
        request = csi_pb2.ControllerExpandVolumeRequest(
            volume_id=volume.id,
            capacity_range=csi_pb2.CapacityRange(required_bytes=(volume.size + 1) * GIB),
            volume_capability=MOUNT,
        )
        answer = self._served.controller.ControllerExpandVolume(request, timeout=60)
        volume.size += 1
        assert answer.capacity_bytes == volume.size * GIB
        return True

    def publish(self) -> bool:
        volume = self._any(lambda found: not found.is_published)
        return volume is not None and self._publish(volume)

    def _publish(self, volume: Volume) -> bool:
        request = csi_pb2.ControllerPublishVolumeRequest(
            volume_id=volume.id, node_id="test-node", volume_capability=MOUNT, volume_context=volume.context
        )
        volume.published = dict(self._served.controller.ControllerPublishVolume(request, timeout=60).publish_context)
        volume.is_published = True
        return True

    def unpublish(self) -> bool:
        volume = self._any(lambda found: found.is_published and not found.is_staged)
        return volume is not None and self._unpublish(volume)

    def _unpublish(self, volume: Volume) -> bool:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume.id, node_id="test-node")
        self._served.controller.ControllerUnpublishVolume(request, timeout=60)
        volume.is_published = False
        return True

    def delete(self) -> bool:
        volume = self._any()
        if volume is None:
            return False
        if not volume.is_published:
            return self._delete(volume)
        request = csi_pb2.DeleteVolumeRequest(volume_id=volume.id)
        code = self._code(lambda: self._served.controller.DeleteVolume(request, timeout=60))
        assert code is Code.FAILED_PRECONDITION
        return True

    def _delete(self, volume: Volume) -> bool:
        """One that has snapshots is gone for us, and they are the next ones to go: the model forgets both."""
        for name in list(volume.snapshots):
            self._delete_snapshot(volume, name)
        self._served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.id), timeout=60)
        self.volumes.remove(volume)
        return True

    def ask(self) -> bool:
        controller = self._served.controller
        listed = {entry.volume.volume_id for entry in controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries}
        assert {volume.id for volume in self.volumes} <= listed
        controller.GetCapacity(csi_pb2.GetCapacityRequest(), timeout=60)
        controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(), timeout=60)
        return True

    def ask_what_is_wrong(self) -> bool:
        controller = self._served.controller
        request = create_request("", 1)
        assert self._code(lambda: controller.CreateVolume(request, timeout=60)) is Code.INVALID_ARGUMENT
        nothing = csi_pb2.CreateSnapshotRequest(name="of-nothing", source_volume_id="nothing")
        assert self._code(lambda: controller.CreateSnapshot(nothing, timeout=60)) is Code.NOT_FOUND
        gone = csi_pb2.DeleteVolumeRequest(volume_id="gone")
        assert self._code(lambda: controller.DeleteVolume(gone, timeout=60)) is Code.OK
        return True

    # The node's part

    def stage(self) -> bool:
        volume = self._any(lambda found: not found.is_staged)
        if volume is None:
            return False
        self._publish(volume)  # repeated, for its context
        self._staging(volume).mkdir(exist_ok=True)
        request = csi_pb2.NodeStageVolumeRequest(
            volume_id=volume.id,
            publish_context=volume.published,
            staging_target_path=str(self._staging(volume)),
            volume_capability=MOUNT,
            volume_context=volume.context,
        )
        self._served.node.NodeStageVolume(request, timeout=60)
        volume.is_staged = True
        return True

    def mount(self) -> bool:
        volume = self._any(lambda found: found.is_staged)
        if volume is None:
            return False
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id=volume.id,
            publish_context=volume.published,
            staging_target_path=str(self._staging(volume)),
            target_path=str(self._target(volume)),
            volume_capability=MOUNT,
            volume_context=volume.context,
        )
        self._served.node.NodePublishVolume(request, timeout=60)
        stats = csi_pb2.NodeGetVolumeStatsRequest(volume_id=volume.id, volume_path=str(self._target(volume)))
        assert self._served.node.NodeGetVolumeStats(stats, timeout=60).usage
        volume.is_mounted = True
        return True

    def unmount(self) -> bool:
        volume = self._any(lambda found: found.is_mounted)
        return volume is not None and self._unmount(volume)

    def _unmount(self, volume: Volume) -> bool:
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume.id, target_path=str(self._target(volume)))
        self._served.node.NodeUnpublishVolume(request, timeout=60)
        volume.is_mounted = False
        return True

    def unstage(self) -> bool:
        volume = self._any(lambda found: found.is_staged and not found.is_mounted)
        return volume is not None and self._unstage(volume)

    def _unstage(self, volume: Volume) -> bool:
        request = csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.id, staging_target_path=str(self._staging(volume)))
        self._served.node.NodeUnstageVolume(request, timeout=60)
        volume.is_staged = False
        return True

    def _any(self, condition: Callable[[Volume], bool] = lambda volume: True) -> Volume | None:
        found = [volume for volume in self.volumes if condition(volume)]
        return self._random.choice(found) if found else None

    def _staging(self, volume: Volume) -> Path:
        return self._folder / f"staging-{volume.id}"

    def _target(self, volume: Volume) -> Path:
        return self._folder / f"target-{volume.id}"

    @staticmethod
    def _code(call: Callable[[], object]) -> grpc.StatusCode:
        try:
            call()
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return Code.OK


@dataclass(frozen=True)
class Measured:
    memory: int
    threads: int
    descriptors: int


def measure(served: Served) -> Measured:
    assert served.process is not None
    process = Path(f"/proc/{served.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Measured(
        memory=int(status["VmRSS"].split()[0]) << 10,
        threads=int(status["Threads"]),
        descriptors=len(list((process / "fd").iterdir())),
    )


@pytest.mark.timeout(120 + OPERATIONS)
def test_random_operations_do_what_the_model_says_and_leave_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, environment=QUICK | {"CINDERBOX_LOG_LEVEL": "info"}) as served:
        workers = [Worker(served, number) for number in range(WORKERS)]
        measured = []
        for _ in range(ROUNDS):
            with ThreadPoolExecutor(WORKERS) as pool:
                for done in [pool.submit(worker.run, OPERATIONS // ROUNDS // WORKERS) for worker in workers]:
                    done.result()
                for done in [pool.submit(worker.end) for worker in workers]:
                    done.result()
            wait_until(lambda: not served.files() and not served.records(), lambda: (served.files(), served.records()))
            assert served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries == []
            assert loop_devices(tmp_path) == []
            assert mounts_below(tmp_path) == []
            assert list((served.state / "node/volumes").glob("*")) == []  # there is no folder before the first one
            measured.append(measure(served))
        warm, last = measured[0], measured[-1]
        assert last.threads <= warm.threads + WORKERS, measured
        assert last.descriptors <= warm.descriptors + WORKERS, measured
        assert last.memory - warm.memory <= MOST_MEMORY, measured
        assert served.stop() == 0
