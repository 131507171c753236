"""Claims on the lab's backends, and data whose checksums are known."""

import hashlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from csi_plugin.protocol import csi_pb2
from tests.lab.backends import LabBackend
from tests.lab.host import run
from tests.node.conftest import GIB, Claim
from tests.serving import Served, mounts_below

MIB = 1024**2
SAMPLE = 8 * MIB
MakeClaim = Callable[..., "LabClaim"]


class LabClaim(Claim):
    """A volume of one backend, as tests/node knows it."""

    def __init__(self, served: Served, backend: LabBackend, folder: Path, **arguments: Any) -> None:
        self.snapshots: list[str] = []
        super().__init__(served, folder, backend=backend.name, **arguments)

    def snapshot(self, name: str) -> str:
        request = csi_pb2.CreateSnapshotRequest(source_volume_id=self.id, name=f"{self.folder.parent.name}-{name}")
        made = self.served.controller.CreateSnapshot(request).snapshot
        assert made.ready_to_use
        self.snapshots.append(made.snapshot_id)
        return str(made.snapshot_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self.served.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id))
        self.snapshots.remove(snapshot_id)

    def take_away(self, *, controller: bool = True) -> None:
        """Unpublish and unstage it; from the controller too, unless told not to."""
        for target in [path for path in mounts_below(self.folder) if path != str(self.staging)]:
            self.unpublish(str(Path(target).relative_to(self.folder)))
        self.unstage()
        if controller:
            request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=self.id, node_id="test-node")
            self.served.controller.ControllerUnpublishVolume(request)
            self.context = {}

    def remove(self) -> None:
        for snapshot_id in list(self.snapshots):
            self.delete_snapshot(snapshot_id)
        super().remove()


def write_block(device: Path, offset: int = 0) -> str:
    """Write random data to a device past the page cache; returns its checksum."""
    data = os.urandom(SAMPLE)
    buffer = mmap.mmap(-1, SAMPLE)
    buffer.write(data)
    descriptor = os.open(device, os.O_WRONLY | os.O_DIRECT)
    try:
        assert os.pwrite(descriptor, buffer, offset) == SAMPLE
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return hashlib.sha256(data).hexdigest()


def read_block(device: Path, offset: int = 0) -> str:
    """The checksum of what a device holds, read past the page cache."""
    buffer = mmap.mmap(-1, SAMPLE)
    descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        assert os.preadv(descriptor, [buffer], offset) == SAMPLE
    finally:
        os.close(descriptor)
    return hashlib.sha256(buffer).hexdigest()


def write_file(folder: Path, name: str = "data") -> str:
    """Write a file of random data to a mounted volume, down to the storage; returns its checksum."""
    data = os.urandom(SAMPLE)
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def read_file(folder: Path, name: str = "data") -> str:
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


def size_of(device: Path) -> int:
    """Bytes of a block device."""
    with device.open("rb") as file:
        return file.seek(0, os.SEEK_END)


def filesystem_size(folder: Path) -> float:
    """GiB."""
    counts = os.statvfs(folder)
    return counts.f_blocks * counts.f_frsize / GIB


def device_holds(device: str, text: bytes) -> bool:
    """Whether a text is anywhere on a device."""
    run("blockdev", "--flushbufs", device)
    before = b""
    with Path(device).open("rb", buffering=0) as file:
        while part := file.read(SAMPLE):
            if text in before + part:
                return True
            before = part[-len(text) :]
    return False
