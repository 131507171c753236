"""Target paths: only what the node has made is ever removed, and nothing is made elsewhere."""

import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.claims import Claim, MakeClaim
from tests.support.csi import fails
from tests.support.devices import mounts_below

Code = grpc.StatusCode


def unpublish(claim: Claim, target: Path, *, volume_id: str = "unknown") -> None:
    request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=str(target))
    claim.served.node.NodeUnpublishVolume(request)


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Things that are not the node's."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    found = {kind: folder / kind for kind in ("file", "empty file", "device", "socket", "pipe", "folder", "link")}
    found["file"].write_text("data")
    found["empty file"].touch()
    os.mknod(found["device"], 0o600 | 0o060000, os.makedev(7, 0))
    os.mkfifo(found["pipe"])
    found["folder"].mkdir()
    (found["folder"] / "file").write_text("data")
    found["link"].symlink_to(tmp_path / "elsewhere")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path is short
        listener.bind("socket")
        os.chdir(here)
    yield found


def test_what_is_not_the_nodes_stays(claim: MakeClaim, foreign: dict[str, Path]) -> None:
    volume = claim()
    volume.stage()
    for volume_id in ("unknown", volume.id):
        for path in foreign.values():
            with fails(Code.FAILED_PRECONDITION, "target_path", str(path)):
                unpublish(volume, path, volume_id=volume_id)
            assert os.path.lexists(path)
        with fails(Code.FAILED_PRECONDITION, "target_path"):
            unpublish(volume, volume.file, volume_id=volume_id)
    assert volume.file.exists()
    assert foreign["file"].read_text() == "data"
    volume.unstage()


@pytest.mark.parametrize("block", [False, True])
def test_a_target_that_holds_something_is_refused(claim: MakeClaim, foreign: dict[str, Path], block: bool) -> None:
    volume = claim(block=block)
    volume.stage()
    for kind, path in foreign.items():
        if block and kind == "empty file":
            continue
        with fails(Code.FAILED_PRECONDITION, "target_path", str(path)):
            volume.publish(target_path=str(path))
        assert os.path.lexists(path)
    assert foreign["file"].read_text() == "data"
    assert not (volume.folder.parent / "elsewhere").exists()
    volume.unstage()


@pytest.mark.parametrize("block", [False, True])
def test_a_target_that_nobody_can_make(claim: MakeClaim, block: bool) -> None:
    volume = claim(block=block)
    volume.stage()
    for path in ("/proc/pod", "/proc/nothing/pod", "/sys/pod"):
        with fails(Code.FAILED_PRECONDITION, "target_path", path, "cannot be made"):
            volume.publish(target_path=path)
    volume.publish()
    volume.unpublish()
    volume.unstage()


def test_a_staging_path_that_is_no_folder(claim: MakeClaim, foreign: dict[str, Path]) -> None:
    """Before anything is attached, or made on the volume."""
    volume = claim()
    for path in (foreign["file"], foreign["socket"], foreign["device"], volume.folder / "nothing"):
        with fails(Code.FAILED_PRECONDITION, "staging_target_path", str(path)):
            volume.stage(staging_target_path=str(path))
    with volume.file.open("rb") as file:
        assert not any(file.read(1024**2))
    assert foreign["file"].read_text() == "data"


def test_empty_folder_is_removed(claim: MakeClaim) -> None:
    volume = claim()
    folder = volume.folder / "pod"
    folder.mkdir()
    unpublish(volume, folder)
    assert not folder.exists()


def test_mounts_that_are_not_the_volumes_stay(claim: MakeClaim) -> None:
    """A device that is mounted by others, which this node has no state of."""
    volume = claim()
    image, target = volume.folder / "image", volume.folder / "mounted"
    target.mkdir()
    with image.open("wb") as file:
        file.truncate(8 * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(target)], check=True)
    for volume_id in ("unknown", volume.id):
        unpublish(volume, target, volume_id=volume_id)
        request = csi_pb2.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path=str(target))
        volume.served.node.NodeUnstageVolume(request)
    assert (target / "lost+found").exists()
    subprocess.run(["umount", str(target)], check=True)


def test_the_staging_path_is_no_target(claim: MakeClaim) -> None:
    volume = claim()
    volume.stage()
    (volume.folder / "link").symlink_to(volume.folder)
    before = mounts_below(volume.folder)
    for path in (volume.staging, volume.folder / "link/staging"):
        unpublish(volume, path, volume_id=volume.id)
        assert mounts_below(volume.folder) == before
        for target in (path, path / "pod"):
            with fails(Code.INVALID_ARGUMENT, "target_path", str(volume.staging)):
                volume.publish(target_path=str(target))
    assert [path.name for path in volume.staging.iterdir()] == ["lost+found"]
    volume.unstage()


def test_unstaging_at_another_path_has_no_effect(claim: MakeClaim) -> None:
    volume = claim()
    volume.stage()
    before = mounts_below(volume.folder)
    request = csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.id, staging_target_path=str(volume.folder / "other"))
    volume.served.node.NodeUnstageVolume(request)
    assert mounts_below(volume.folder) == before
    assert Path(volume.device).exists()
    volume.unstage()


def test_links_are_not_followed(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    (pod / "file").write_text("data")
    link = volume.folder / "link"
    link.symlink_to(volume.staging)
    with fails(Code.FAILED_PRECONDITION, str(link)):
        unpublish(volume, link, volume_id=volume.id)
    assert (volume.staging / "file").read_text() == "data"
    other = claim("other")
    with fails(Code.FAILED_PRECONDITION, "staging_target_path", "symbolic link"):
        other.stage(staging_target_path=str(link))


def test_two_volumes_at_one_target_at_once(claim: MakeClaim) -> None:
    volumes = [claim(f"volume-{number}") for number in range(4)]
    for volume in volumes:
        volume.stage()
    target = volumes[0].folder / "shared"

    def attempt(volume: Claim) -> bool:
        try:
            volume.publish(target_path=str(target))
        except grpc.RpcError as error:
            assert error.code() in (Code.ABORTED, Code.FAILED_PRECONDITION)
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        published = list(pool.map(attempt, volumes))
    assert published.count(True) == 1
    assert mounts_below(volumes[0].folder).count(str(target)) == 1
    unpublish(volumes[0], target, volume_id=volumes[published.index(True)].id)
