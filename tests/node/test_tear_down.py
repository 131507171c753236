"""Taking a volume away: in which order, what is left alone, and what a refusal leaves as it was."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.claims import MakeClaim
from tests.support.csi import fails
from tests.support.devices import mounts_below
from tests.support.mount_namespaces import private_mounts

Code = grpc.StatusCode


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs", "block"])
def test_unstaging_a_published_volume_changes_nothing(claim: MakeClaim, filesystem: str) -> None:
    block = filesystem == "block"
    volume = claim(block=block, filesystem="" if block else filesystem)
    pod = volume.use()
    before, device = mounts_below(volume.folder), volume.device
    with fails(Code.FAILED_PRECONDITION, str(pod), "unpublish it first"):
        volume.unstage()
    assert mounts_below(volume.folder) == before
    assert volume.device == device
    if block:
        with pod.open("r+b", buffering=0) as opened:
            opened.write(bytes(4096))
    else:
        (pod / "file").write_text("data")
    volume.unpublish()
    volume.unstage()


@pytest.mark.parametrize("filesystem", ["ext4", "btrfs"])
def test_unstaging_sees_mounts_that_nobody_recorded(claim: MakeClaim, filesystem: str) -> None:
    """A pod's subPath, say, is a bind mount of kubelet's own."""
    volume = claim(filesystem=filesystem)
    pod = volume.use()
    (pod / "folder").mkdir()
    other = volume.folder / "subpath"
    other.mkdir()
    subprocess.run(["mount", "--bind", str(pod / "folder"), str(other)], check=True)
    volume.unpublish()
    with fails(Code.FAILED_PRECONDITION, str(other)):
        volume.unstage()
    assert str(volume.staging) in mounts_below(volume.folder)
    subprocess.run(["umount", str(other)], check=True)
    volume.unstage()


@pytest.fixture
def in_another_namespace() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Starts processes with a mount namespace of their own, where what is mounted in a folder now stays so."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> subprocess.Popen[bytes]:
        command = [*private_mounts(folder), "sh", "-c", "echo; exec sleep infinity"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs", "block"])
def test_a_volume_that_is_mounted_where_the_node_does_not_see_it_is_not_detached(
    claim: MakeClaim, in_another_namespace: Callable[[Path], subprocess.Popen[bytes]], filesystem: str
) -> None:
    block = filesystem == "block"
    volume = claim(block=block, filesystem="" if block else filesystem)
    pod = volume.use()
    inside = volume.folder / "inside"
    if block:
        inside.mkdir()
        subprocess.run(["mkfs.ext4", "-q", str(pod)], check=True)
        subprocess.run(["mount", volume.device, str(inside)], check=True)
    process = in_another_namespace(volume.folder)
    if block:
        subprocess.run(["umount", str(inside)], check=True)
    volume.unpublish()
    before, device = mounts_below(volume.folder), volume.device
    with fails(Code.FAILED_PRECONDITION, volume.id, "another mount namespace", device):
        volume.unstage()
    assert mounts_below(volume.folder) == before
    assert volume.device == device
    if not block:
        subprocess.run(["umount", str(volume.staging)], check=True)
        volume.stage()  # without fsck, which cannot have the device
    volume.publish()
    volume.unpublish()
    process.kill()
    process.wait()
    volume.unstage()


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs"])
def test_filesystem_that_a_pod_still_has_mounted_is_not_checked(claim: MakeClaim, filesystem: str) -> None:
    """The staging path was unmounted by hand: fsck and its like are for devices that nobody uses."""
    volume = claim(filesystem=filesystem)
    pod = volume.use()
    (pod / "file").write_text("data")
    subprocess.run(["umount", str(volume.staging)], check=True)
    volume.stage()
    assert (volume.staging / "file").read_text() == "data"
    (pod / "file").write_text("more")
    assert Path(volume.staging / "file").read_text() == "more"
    volume.unpublish()
    volume.unstage()


@pytest.mark.parametrize("block", [True, False])
def test_device_that_is_another_volumes_by_now(claim: MakeClaim, block: bool) -> None:
    """It was taken away by force, and the kernel has given its name to the next one: neither sees the other's data."""
    old, new = claim("old", block=True), claim("new", block=block, filesystem="" if block else "ext4")
    pod = old.use()
    device = old.device
    subprocess.run(["losetup", "--detach", device], check=True)
    subprocess.run(["losetup", device, str(new.file)], check=True)
    with fails(Code.FAILED_PRECONDITION, str(pod), old.id, "unpublish and unstage that one first"):
        new.stage()
    with fails(Code.FAILED_PRECONDITION, str(pod), "unpublish it first"):
        old.unstage()
    old.unpublish()
    old.unstage()
    assert new.device == device
    new.use()
    new.unpublish()
    new.unstage()
