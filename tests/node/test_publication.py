"""Where and how often a staged volume may be published, and what repeats and contradictions lead to."""

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.claims import MakeClaim
from tests.support.csi import GIB, Mode, capability, fails
from tests.support.devices import mounts_below

Code = grpc.StatusCode
ONE_PATH = (Mode.SINGLE_NODE_WRITER, Mode.SINGLE_NODE_SINGLE_WRITER)
MANY_PATHS = (
    Mode.SINGLE_NODE_MULTI_WRITER,
    Mode.MULTI_NODE_SINGLE_WRITER,
    Mode.MULTI_NODE_MULTI_WRITER,
)


@pytest.mark.parametrize("mode", ONE_PATH)
def test_modes_for_one_path(claim: MakeClaim, mode: int) -> None:
    """CSI specification, NodePublishVolume: the second call with another target path fails."""
    volume = claim(mode=mode)
    volume.use("first")
    with fails(Code.FAILED_PRECONDITION, "first", "one path"):
        volume.publish("second")
    volume.publish("first")
    volume.unpublish("first")
    volume.publish("second")


@pytest.mark.parametrize("mode", MANY_PATHS)
def test_modes_for_many_paths(claim: MakeClaim, mode: int) -> None:
    volume = claim(mode=mode, block=mode != Mode.SINGLE_NODE_MULTI_WRITER)
    first = volume.use("first")
    second = volume.publish("second")
    assert first.exists()
    assert second.exists()
    volume.unpublish("first")
    assert not first.exists()
    assert second.exists()


def test_repeats(claim: MakeClaim) -> None:
    volume = claim()
    for _ in range(2):
        volume.stage()
    for _ in range(2):
        pod = volume.publish()
    assert subprocess.run(["grep", "-c", f" {pod} ", "/proc/self/mounts"], capture_output=True).stdout == b"1\n"
    for _ in range(2):
        volume.unpublish()
    for _ in range(2):
        volume.unstage()
    assert not pod.exists()
    assert mount_count(volume.folder) == 0


def mount_count(folder: Path) -> int:
    return Path("/proc/self/mounts").read_text().count(f" {folder}/")


def test_sixteen_identical_calls_at_once(claim: MakeClaim) -> None:
    volume = claim()
    volume.publish_controller()
    volume.staging.mkdir()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: volume.stage(), range(16)))
        list(pool.map(lambda _: volume.publish(), range(16)))
        assert mount_count(volume.folder) == 2
        list(pool.map(lambda _: volume.unpublish(), range(16)))
        list(pool.map(lambda _: volume.unstage(), range(16)))
    assert mount_count(volume.folder) == 0


def test_other_staging_of_a_staged_volume(claim: MakeClaim) -> None:
    volume = claim()
    volume.stage()
    with fails(Code.ALREADY_EXISTS, "staging_path"):
        volume.stage(staging_target_path=str(volume.folder / "elsewhere"))
    with fails(Code.ALREADY_EXISTS, "mount_flags"):
        volume.stage(volume_capability=capability("ext4", flags=("noatime",)))
    with fails(Code.ALREADY_EXISTS, "access_type"):
        volume.stage(volume_capability=capability("", block=True))
    with fails(Code.ALREADY_EXISTS, "filesystem"):
        volume.stage(volume_capability=capability("xfs"))


def test_other_publication_at_the_same_path(claim: MakeClaim) -> None:
    volume = claim()
    volume.use()
    with fails(Code.ALREADY_EXISTS, "readonly"):
        volume.publish(readonly=True)
    with fails(Code.FAILED_PRECONDITION, "staged for mount"):
        volume.publish(volume_capability=capability("", block=True))
    with fails(Code.FAILED_PRECONDITION, "SINGLE_NODE_WRITER"):
        volume.publish(volume_capability=capability("ext4", mode=Mode.SINGLE_NODE_MULTI_WRITER))


def test_a_repeat_at_the_same_path_with_another_mount(claim: MakeClaim) -> None:
    volume = claim()
    volume.use()
    with fails(Code.ALREADY_EXISTS, "fs_type"):
        volume.publish(volume_capability=capability("xfs"))
    with fails(Code.ALREADY_EXISTS, "mount_flags"):
        volume.publish(volume_capability=capability("ext4", flags=("noatime",)))
    volume.publish()


def test_one_path_written_in_several_ways(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    for alias in (f"{pod}/", f"{volume.folder}//pod", f"{volume.folder}/./pod"):
        volume.publish(target_path=alias)
    assert mount_count(volume.folder) == 2
    volume.served.node.NodeUnpublishVolume(
        csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume.id, target_path=f"{volume.folder}/./pod/")
    )
    assert mount_count(volume.folder) == 1
    staging = f"{volume.folder}/./staging/"
    volume.stage(staging_target_path=staging)
    volume.publish(staging_target_path=staging)
    volume.unpublish()
    volume.served.node.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.id, staging_target_path=f"/{staging}")
    )
    assert mount_count(volume.folder) == 0


def test_expansion_is_of_the_staged_kind_and_within_the_limit(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()

    def expand(**fields: object) -> int:
        request = csi_pb2.NodeExpandVolumeRequest(volume_id=volume.id, volume_path=str(pod), **fields)
        return int(volume.served.node.NodeExpandVolume(request).capacity_bytes)

    with fails(Code.FAILED_PRECONDITION, "volume_capability", "staged for mount"):
        expand(volume_capability=capability(block=True))
    with fails(Code.INVALID_ARGUMENT, "fs_type"):
        expand(volume_capability=capability("ntfs"))
    with fails(Code.OUT_OF_RANGE, "limit_bytes"):
        expand(capacity_range=csi_pb2.CapacityRange(limit_bytes=GIB - 1))
    assert expand(capacity_range=csi_pb2.CapacityRange(limit_bytes=GIB)) == GIB


def test_health_at_paths_as_long_as_kubelets(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    path = f"/var/lib/kubelet/pods/{'0' * 36}/volumes/kubernetes.io~csi/pvc-{'0' * 36}/mount"
    for used in (path, str(pod)):
        request = csi_pb2.NodeGetVolumeHealthRequest(
            volume_id=volume.id, volume_publish_path=used, staging_target_path=str(volume.staging)
        )
        assert not volume.served.node.NodeGetVolumeHealth(request).volume_health.health_statuses


def test_order(claim: MakeClaim) -> None:
    volume = claim()
    with fails(Code.NOT_FOUND, volume.id):
        volume.publish()
    volume.stage()
    with fails(Code.FAILED_PRECONDITION, "staging_target_path"):
        volume.publish(staging_target_path=str(volume.folder / "elsewhere"))
    with fails(Code.FAILED_PRECONDITION, "staging_target_path"):
        volume.publish(staging_target_path="")
    pod = volume.publish()
    with fails(Code.FAILED_PRECONDITION, str(pod)):
        volume.unstage()
    assert (pod / "lost+found").exists()


def test_what_is_not_here_is_unpublished_and_unstaged(claim: MakeClaim, tmp_path: Path) -> None:
    volume = claim()
    volume.unpublish("never")
    volume.unstage()
    node = volume.served.node
    node.NodeUnpublishVolume(csi_pb2.NodeUnpublishVolumeRequest(volume_id="x", target_path=str(tmp_path / "never")))
    node.NodeUnstageVolume(csi_pb2.NodeUnstageVolumeRequest(volume_id="x", staging_target_path=str(tmp_path / "never")))
    assert mounts_below(tmp_path) == []


def test_another_mount_in_the_way(claim: MakeClaim) -> None:
    volume, other = claim(), claim("other")
    other_pod = other.use()
    with fails(Code.FAILED_PRECONDITION, "not this volume"):
        volume.stage(staging_target_path=str(other_pod))
    volume.stage()
    with fails(Code.FAILED_PRECONDITION, "not this volume"):
        volume.publish(target_path=str(other_pod))
    volume.unpublish(str(other_pod))
    volume.served.node.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.id, staging_target_path=str(other_pod))
    )
    assert (other_pod / "lost+found").exists()


def test_a_volume_that_nobody_knows_does_not_take_anothers_mounts(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    node = volume.served.node
    node.NodeUnpublishVolume(csi_pb2.NodeUnpublishVolumeRequest(volume_id="unknown", target_path=str(pod)))
    node.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id="unknown", staging_target_path=str(volume.staging))
    )
    assert (pod / "lost+found").exists()
    assert (volume.staging / "lost+found").exists()


def test_a_read_only_publication_that_was_cut_off_is_finished(claim: MakeClaim) -> None:
    volume = claim()
    volume.stage()
    pod = volume.folder / "pod"
    pod.mkdir()
    subprocess.run(["mount", "--bind", str(volume.staging), str(pod)], check=True)  # as far as a crash let it come
    volume.publish(readonly=True)
    with pytest.raises(OSError, match="Read-only"):
        (pod / "file").write_text("data")


def test_a_path_that_holds_something_is_not_deleted(claim: MakeClaim) -> None:
    volume = claim()
    folder = volume.folder / "pod"
    folder.mkdir()
    (folder / "precious").write_text("data")
    with fails(Code.FAILED_PRECONDITION, str(folder), "not empty"):
        volume.unpublish()
    assert (folder / "precious").read_text() == "data"


@pytest.mark.parametrize("readonly", [False, True])
def test_block_device(claim: MakeClaim, readonly: bool) -> None:
    volume = claim(block=True)
    volume.publish_controller(readonly=readonly)
    path = volume.use(readonly=readonly)
    assert stat.S_ISBLK(path.stat().st_mode)
    assert path.stat().st_rdev == Path(volume.device).stat().st_rdev
    descriptor = os.open(path, os.O_RDONLY if readonly else os.O_RDWR)
    try:
        assert os.lseek(descriptor, 0, os.SEEK_END) == GIB
        if not readonly:
            os.pwrite(descriptor, b"raw data", 4096)
    finally:
        os.close(descriptor)
    for alias in (str(path), f"{path}/", f"{volume.folder}//pod"):
        assert volume.stats(alias)[csi_pb2.VolumeUsage.BYTES].total == GIB
    if readonly:
        with pytest.raises(OSError, match="not permitted"), path.open("r+b", buffering=0) as device:
            device.write(b"raw data")
        return
    assert volume.expand(2, path) == 2 * GIB
    volume.unpublish()
    volume.unstage()
    assert volume.file.open("rb").read(4104)[4096:] == b"raw data"
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"volume_id": ""}, "volume_id"),
        ({"staging_target_path": ""}, "staging_target_path"),
        ({"staging_target_path": "relative"}, "staging_target_path"),
        ({"staging_target_path": "/a/../b"}, "staging_target_path"),
        ({"volume_capability": None}, "volume_capability"),
        ({"volume_capability": csi_pb2.VolumeCapability()}, "volume_capability"),
        ({"volume_capability": capability("vfat")}, "fs_type"),
        ({"volume_capability": capability("-oro")}, "fs_type"),
        ({"publish_context": {}}, "publish_context"),
        ({"publish_context": {"connection": "not base64!"}}, "publish_context.connection"),
        ({"volume_context": {"mkfs_options": "-L $(reboot)"}}, "mkfs_options"),
        ({"volume_context": {"mkfs_options": "'"}}, "mkfs_options"),
        ({"volume_context": {"mkfs_options": "/dev/sda"}}, "mkfs_options"),
    ],
)
def test_staging_requests_are_checked(claim: MakeClaim, changes: dict[str, object], words: str) -> None:
    volume = claim()
    volume.context = {"connection": "c2VhbGVk"}
    with fails(Code.INVALID_ARGUMENT, words):
        volume.stage(**changes)


def test_node_info(claim: MakeClaim) -> None:
    node = claim().served.node
    assert node.NodeGetInfo(csi_pb2.NodeGetInfoRequest()).node_id == "test-node"
    types = {
        csi_pb2.NodeServiceCapability.RPC.Type.Name(entry.rpc.type)
        for entry in node.NodeGetCapabilities(csi_pb2.NodeGetCapabilitiesRequest()).capabilities
    }
    assert types == {
        "STAGE_UNSTAGE_VOLUME",
        "GET_VOLUME_STATS",
        "EXPAND_VOLUME",
        "SINGLE_NODE_MULTI_WRITER",
        "GET_VOLUME_HEALTH",
        "GET_STORAGE_HEALTH",
    }
