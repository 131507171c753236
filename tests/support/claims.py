"""Volumes as one node uses them."""

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from csi_plugin.protocol import csi_pb2
from tests.support.csi import GIB, Mode, capability
from tests.support.devices import mounts_below
from tests.support.serving import Served

MakeClaim = Callable[..., "Claim"]


@contextlib.contextmanager
def attachment_held(locks: Path, publication: str) -> Iterator[None]:
    """In the block, somebody else works on a volume of the node, and what would attach or detach it waits.

    ``locks``: the node's folder of lock files; ``publication``: "node id/volume id".
    """
    locks.mkdir(exist_ok=True)
    byte = int.from_bytes(hashlib.sha256(publication.encode()).digest()[:7], "big")
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2])); "
        "print(flush=True); sys.stdin.read()"
    )
    # In a process of its own: locks of this kind are a process' own.
    other = subprocess.Popen(
        [sys.executable, "-c", script, locks / "attachment.lock", str(byte)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        yield


class Claim:
    """A volume and the paths at which this node uses it."""

    def __init__(
        self,
        served: Served,
        folder: Path,
        *,
        name: str,
        filesystem: str = "ext4",
        mode: int = Mode.SINGLE_NODE_WRITER,
        block: bool = False,
        gib: int = 1,
        flags: tuple[str, ...] = (),
        source: "Claim | None" = None,
        snapshot: str = "",
        **parameters: str,
    ) -> None:
        self.served = served
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.staging = folder / "staging"
        self.capability = capability(filesystem, mode=mode, block=block, flags=flags)
        request = csi_pb2.CreateVolumeRequest(
            name=name,
            capacity_range=csi_pb2.CapacityRange(required_bytes=gib * GIB),
            volume_capabilities=[self.capability],
            parameters=parameters,
        )
        if source is not None:
            request.volume_content_source.volume.volume_id = source.id
        if snapshot:
            request.volume_content_source.snapshot.snapshot_id = snapshot
        self.volume = served.controller.CreateVolume(request).volume
        self.id = self.volume.volume_id
        self.context: dict[str, str] = {}

    @property
    def file(self) -> Path:
        return self.served.volumes / f"volume-{self.id}"

    @property
    def device(self) -> str:
        done = subprocess.run(
            ["losetup", "--noheadings", "--output", "NAME", "--associated", str(self.file)],
            capture_output=True,
            text=True,
            check=True,
        )
        (device,) = done.stdout.split()
        return device

    def publish_controller(self, *, readonly: bool = False) -> None:
        self.context = dict(
            self.served.controller.ControllerPublishVolume(
                csi_pb2.ControllerPublishVolumeRequest(
                    volume_id=self.id,
                    node_id="test-node",
                    volume_capability=self.capability,
                    readonly=readonly,
                    volume_context=self.volume.volume_context,
                )
            ).publish_context
        )

    def stage(self, **changes: Any) -> None:
        if not self.context:
            self.publish_controller()
        self.staging.mkdir(exist_ok=True)
        values = {
            "volume_id": self.id,
            "publish_context": self.context,
            "staging_target_path": str(self.staging),
            "volume_capability": self.capability,
            "volume_context": self.volume.volume_context,
        }
        self.served.node.NodeStageVolume(csi_pb2.NodeStageVolumeRequest(**(values | changes)))

    def publish(self, target: str = "pod", **changes: Any) -> Path:
        values = {
            "volume_id": self.id,
            "publish_context": self.context,
            "staging_target_path": str(self.staging),
            "target_path": str(self.folder / target),
            "volume_capability": self.capability,
            "volume_context": self.volume.volume_context,
        }
        self.served.node.NodePublishVolume(csi_pb2.NodePublishVolumeRequest(**(values | changes)))
        return self.folder / target

    def use(self, target: str = "pod", **changes: Any) -> Path:
        """Stage and publish; the path at which a pod would see the volume. Secrets are for the stage."""
        self.stage(**{name: changes.pop(name) for name in ("secrets",) if name in changes})
        return self.publish(target, **changes)

    def unpublish(self, target: str = "pod") -> None:
        self.served.node.NodeUnpublishVolume(
            csi_pb2.NodeUnpublishVolumeRequest(volume_id=self.id, target_path=str(self.folder / target))
        )

    def unstage(self) -> None:
        self.served.node.NodeUnstageVolume(
            csi_pb2.NodeUnstageVolumeRequest(volume_id=self.id, staging_target_path=str(self.staging))
        )

    def expand_controller(self, gib: int) -> None:
        self.served.controller.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=self.id,
                capacity_range=csi_pb2.CapacityRange(required_bytes=gib * GIB),
                volume_capability=self.capability,
            )
        )

    def expand(self, gib: int, path: Path, **changes: Any) -> int:
        self.expand_controller(gib)
        request = csi_pb2.NodeExpandVolumeRequest(
            volume_id=self.id,
            volume_path=str(path),
            staging_target_path=str(self.staging),
            capacity_range=csi_pb2.CapacityRange(required_bytes=gib * GIB),
            volume_capability=self.capability,
            **changes,
        )
        return int(self.served.node.NodeExpandVolume(request).capacity_bytes)

    def stats(self, path: Path | str) -> dict[int, Any]:
        request = csi_pb2.NodeGetVolumeStatsRequest(volume_id=self.id, volume_path=str(path))
        return {usage.unit: usage for usage in self.served.node.NodeGetVolumeStats(request).usage}

    def health(self) -> list[str]:
        request = csi_pb2.NodeGetVolumeHealthRequest(volume_id=self.id)
        entries = self.served.node.NodeGetVolumeHealth(request).volume_health.health_statuses
        return [entry.reason for entry in entries]

    def remove(self) -> None:
        for target in [path for path in mounts_below(self.folder) if path != str(self.staging)]:
            self.unpublish(str(Path(target).relative_to(self.folder)))
        self.unstage()
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=self.id, node_id="test-node")
        self.served.controller.ControllerUnpublishVolume(request)
        self.served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=self.id))


def mount_line(target: Path) -> tuple[str, set[str]]:
    """(filesystem, options) of what is mounted at a path, from the kernel."""
    done = subprocess.run(
        ["findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "--mountpoint", str(target)],
        capture_output=True,
        text=True,
        check=True,
    )
    filesystem, options = done.stdout.split()
    return filesystem, set(options.split(","))
