"""Volumes with a filesystem: made once, mounted where asked, grown, and never made over something."""

import os
import random
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from csi_plugin.attachment import host_tables
from csi_plugin.node import mounts
from csi_plugin.protocol import csi_pb2
from tests.support.claims import Claim, MakeClaim, mount_line
from tests.support.csi import GIB, Mode, capability, fails
from tests.support.devices import loop_devices

Code = grpc.StatusCode
Usage = csi_pb2.VolumeUsage
FILESYSTEMS = ("ext4", "xfs", "btrfs")
OLDER = ("ext2", "ext3")
"""Of volumes that ember-csi made."""


def size_of(path: Path) -> float:
    """GiB."""
    counts = os.statvfs(path)
    return counts.f_blocks * counts.f_frsize / GIB


def write(path: Path, text: str = "data") -> None:
    (path / "file").write_text(text)
    subprocess.run(["sync", "--file-system", str(path)], check=True)


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_data_stays_over_staging(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    pod = volume.use()
    assert mount_line(pod)[0] == filesystem
    write(pod)
    volume.unpublish()
    assert not pod.exists()
    volume.unstage()
    assert not (volume.staging / "file").exists()

    assert (volume.use() / "file").read_text() == "data"


def test_the_node_has_a_default(claim: MakeClaim) -> None:
    assert mount_line(claim(filesystem="").use())[0] == "ext4"


def test_a_filesystem_that_is_there_is_used(claim: MakeClaim) -> None:
    volume = claim(filesystem="xfs")
    write(volume.use())
    volume.unpublish()
    volume.unstage()

    volume.capability = capability("")
    pod = volume.use()

    assert mount_line(pod)[0] == "xfs"
    assert (pod / "file").read_text() == "data"
    volume.unpublish()
    volume.unstage()
    volume.capability = capability("ext4")
    with fails(Code.FAILED_PRECONDITION, "xfs", "ext4"):
        volume.stage()


def overwrite(volume: Claim, content: str) -> None:
    """Put something on the volume's file that is no filesystem of ours."""
    if content == "partition table":
        entry = bytes([0x80, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
        with volume.file.open("r+b") as file:
            file.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
        return
    command = {
        "crypto_LUKS": "cryptsetup luksFormat --batch-mode --pbkdf=pbkdf2 --pbkdf-force-iterations=1000 --key-file=-",
        "swap": "mkswap",
    }[content]
    subprocess.run([*command.split(), str(volume.file)], input=b"key", check=True, capture_output=True)


@pytest.mark.parametrize("content", ["partition table", "crypto_LUKS", "swap"])
def test_foreign_content_is_never_overwritten(claim: MakeClaim, content: str) -> None:
    volume = claim()
    overwrite(volume, content)
    before = volume.file.open("rb").read(4 * 1024**2)
    with fails(Code.FAILED_PRECONDITION, content):
        volume.stage()
    assert volume.file.open("rb").read(4 * 1024**2) == before


def spoil(volume: Claim, filesystem: str) -> None:
    """What blkid finds nothing of any more, though all data is there."""
    starts = [64 * 1024, 64 * 1024**2] if filesystem == "btrfs" else [0]
    with volume.file.open("r+b") as file:
        for start in starts:
            file.seek(start)
            file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_damaged_filesystem_is_not_formatted(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    write(volume.use())
    volume.unpublish()
    volume.unstage()
    spoil(volume, filesystem)
    with fails(Code.FAILED_PRECONDITION, "is not zero", "not overwritten", "blkdiscard -z", "delete the volume"):
        volume.stage()


@pytest.mark.parametrize("position", [0, 37 * 1024**2 + 5, 700 * 1024**2, GIB - 1024**2])
def test_data_of_an_unknown_kind_is_not_overwritten(claim: MakeClaim, position: int) -> None:
    volume = claim()
    data = random.Random(1).randbytes(1024**2)
    with volume.file.open("r+b") as file:
        file.seek(position)
        file.write(data)
    with fails(Code.FAILED_PRECONDITION, "is not zero", "not overwritten"):
        volume.stage()
    with volume.file.open("rb") as file:
        file.seek(position)
        assert file.read(1024**2) == data
    volume.stage(volume_capability=capability(block=True))
    subprocess.run(["blkdiscard", "-z", volume.device], check=True)
    volume.unstage()
    volume.stage()  # a person has said that nobody needs it


def test_a_filesystem_that_has_vanished_is_not_made_again(claim: MakeClaim) -> None:
    volume = claim()
    volume.stage()
    subprocess.run(["umount", str(volume.staging)], check=True)
    subprocess.run(["blkdiscard", "-z", "-f", volume.device], check=True)
    with fails(Code.FAILED_PRECONDITION, "had a filesystem", "not formatted again"):
        volume.stage()


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_volume_is_formatted_once_in_its_life(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    volume.stage()
    volume.unstage()
    volume.publish_controller()  # as another node would have it
    size = volume.file.stat().st_size
    os.truncate(volume.file, 0)
    os.truncate(volume.file, size)
    with fails(Code.FAILED_PRECONDITION, "had a filesystem", "not formatted again"):
        volume.stage()


def test_a_copy_of_what_was_formatted_is_not_formatted(claim: MakeClaim) -> None:
    source = claim()
    source.stage()
    source.unstage()
    size = source.file.stat().st_size
    os.truncate(source.file, 0)
    os.truncate(source.file, size)
    with fails(Code.FAILED_PRECONDITION, "had a filesystem", "not formatted again"):
        claim(source=source).stage()


def test_a_device_that_cannot_be_read_is_not_formatted(claim: MakeClaim) -> None:
    volume = claim()
    volume.publish_controller()
    volume.capability = capability("", block=True)
    volume.stage()
    volume.capability = capability("ext4")
    size = volume.file.stat().st_size
    os.truncate(volume.file, 0)
    done = subprocess.run(["dd", f"if={volume.device}", "bs=4k", "count=1", "iflag=direct"], capture_output=True)
    assert b"Input/output error" in done.stderr, "the test needs a device whose reads fail"
    device = volume.device
    script = "import sys; from csi_plugin.attachment.signatures import probe; print(probe(sys.argv[1]))"
    probed = subprocess.run([sys.executable, "-c", script, device], capture_output=True, text=True)
    assert probed.returncode != 0
    assert "Input/output error" in probed.stderr
    os.truncate(volume.file, size)


def test_mkfs_options_are_a_parameter(claim: MakeClaim) -> None:
    volume = claim(mkfs_options="-L letters -I 512 -m 3")
    volume.stage()
    header = subprocess.run(["dumpe2fs", "-h", volume.device], capture_output=True, text=True, check=True).stdout
    assert "letters" in header
    assert "Inode size:\t          512" in header


def test_mount_flags_count(claim: MakeClaim) -> None:
    options = mount_line(claim(flags=("noatime", "suid")).use())[1]
    assert {"noatime", "nodev", "rw"} <= options
    assert "nosuid" not in options


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_mount_flag_makes_it_read_only(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    write(volume.use())
    volume.unpublish()
    volume.unstage()
    volume.capability = capability(filesystem, flags=("ro", "noatime"))
    pod = volume.use()
    assert (pod / "file").read_text() == "data"
    for path in (volume.staging, pod):
        assert {"ro", "noatime"} <= mount_line(path)[1]
    with pytest.raises(OSError, match="Read-only"):
        (pod / "file").write_text("other")


@pytest.mark.parametrize("flags", [("ro",), ()])
def test_the_device_of_what_cannot_be_staged_is_given_back(claim: MakeClaim, flags: tuple[str, ...]) -> None:
    """Kubelet sends no unstage after an error that is final, and what is attached cannot be deleted."""
    volume = claim(flags=flags)
    if flags:
        word = "no filesystem"  # and none is made on what is to be read
    else:
        word = "not zero"
        with volume.file.open("r+b") as file:
            file.write(b"precious" * 1000)
    with fails(Code.FAILED_PRECONDITION, word):
        volume.stage()
    assert loop_devices(volume.served.volumes) == []
    served = volume.served
    served.controller.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume.id))
    served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.id))
    assert not volume.file.exists()


@pytest.mark.parametrize("filesystem", OLDER)
def test_older_filesystems_are_mounted_checked_and_grown(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    write(volume.use())
    volume.unpublish()
    volume.unstage()
    volume.expand_controller(2)
    volume.capability = capability("")
    pod = volume.use()
    assert mount_line(pod)[0] == filesystem
    assert (pod / "file").read_text() == "data"
    assert size_of(pod) > 1.8


@pytest.mark.parametrize("option", ["-e panic", "-E mount_opts=errors=panic"])
@pytest.mark.parametrize("filesystem", ["ext4", "ext3"])
def test_a_filesystem_does_not_make_the_kernel_panic(claim: MakeClaim, filesystem: str, option: str) -> None:
    """Whoever had the volume as a raw block device may have written that into it, with errors to be found."""
    volume = claim(filesystem=filesystem)
    assert "errors=continue" not in mount_options(volume.use())  # it is the kernel's default
    volume.unpublish()
    volume.unstage()
    subprocess.run(["tune2fs", *option.split(), volume.file], check=True)
    assert "errors=remount-ro" in mount_options(volume.use())


def mount_options(path: Path) -> frozenset[str]:
    """Of the filesystem that is mounted there."""
    (mounted,) = host_tables.mounts(target=str(path))
    return mounted.filesystem_options


@pytest.mark.parametrize("flag", ["loop", "bind", "remount", "X-mount.mkdir", "errors=panic"])
def test_flags_that_change_what_is_mounted_are_refused(claim: MakeClaim, flag: str) -> None:
    volume = claim()
    volume.publish_controller()
    volume.capability = capability("ext4", flags=(flag,))
    with fails(Code.INVALID_ARGUMENT, "mount_flags", flag):
        volume.stage()
    with fails(Code.INVALID_ARGUMENT, "mount_flags", flag):
        claim("other", flags=(flag,))


@pytest.mark.parametrize(
    ("filesystem", "flags", "refused"),
    [
        ("ext4", ("noatime", "frobnicate"), "frobnicate for"),
        ("ext4", ("data=weird", "acl"), "data="),
        ("xfs", ("logbufs=99", "noatime"), "logbufs="),
        ("btrfs", ("compress=zest", "ssd"), "compress="),
        ("xfs", ("norecovery",), "norecovery for"),  # without ro
    ],
)
def test_flags_that_the_kernel_refuses_are_named(
    claim: MakeClaim, filesystem: str, flags: tuple[str, ...], refused: str
) -> None:
    """Only a kernel can judge them, and who reads INTERNAL takes the volume for broken."""
    volume = claim(filesystem=filesystem)
    volume.publish_controller()
    volume.capability = capability(filesystem, flags=flags)
    with fails(Code.INVALID_ARGUMENT, f"volume_capability.mount.mount_flags: mount refused {refused}", "mountOptions"):
        volume.stage()
    assert mounts.at(str(volume.staging)) is None
    assert loop_devices(volume.served.volumes) == []
    volume.capability = capability(filesystem, flags=("noatime",))
    volume.stage()


def test_flags_are_not_blamed_for_a_filesystem_that_cannot_be_mounted(claim: MakeClaim) -> None:
    """mount(8) has one message for bad options and for bad superblocks."""
    volume = claim(filesystem="xfs", flags=("noatime",))
    volume.use()
    volume.unpublish()
    volume.unstage()
    subprocess.run(
        ["xfs_db", "-x", "-c", "sb 0", "-c", "write -d features_incompat 0x40000001", str(volume.file)],
        check=True,
        capture_output=True,
    )
    with fails(Code.INTERNAL, "bad superblock"):
        volume.stage()


@pytest.mark.parametrize("options", ["-d etc", "-d .", "-J device=a", "--rootdir etc"])
def test_mkfs_gets_no_files_of_the_node(claim: MakeClaim, options: str) -> None:
    with fails(Code.INVALID_ARGUMENT, "mkfs_options", "llowed are"):
        claim(mkfs_options=options)
    volume = claim("other")
    with fails(Code.INVALID_ARGUMENT, "mkfs_options"):
        volume.stage(volume_context={"mkfs_options": options})
    with volume.file.open("rb") as file:
        assert not any(file.read(1024**2))


@pytest.mark.parametrize("kernel", ["new", "5", "5.10 -d etc"])
def test_oldest_kernel_is_a_version(claim: MakeClaim, kernel: str) -> None:
    """Also where no class has checked it, as of a volume that a person has made known to Kubernetes."""
    volume = claim()
    volume.publish_controller()
    with fails(Code.INVALID_ARGUMENT, "volume_context.oldest_kernel", "such as 5.10"):
        volume.stage(volume_context={"oldest_kernel": kernel})
    with volume.file.open("rb") as file:
        assert not any(file.read(1024**2))


@pytest.mark.parametrize("flag", ["noatime,suid", "a b", "x;y", "", "'"])
def test_mount_flags_are_checked(claim: MakeClaim, flag: str) -> None:
    volume = claim()
    volume.capability = capability("ext4", flags=(flag,))
    volume.context = {"connection": "any"}
    with fails(Code.INVALID_ARGUMENT, "mount_flags"):
        volume.stage()


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_read_only_publication(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    pod = volume.use(readonly=True)
    assert {"ro", "nodev", "nosuid"} <= mount_line(pod)[1]
    with pytest.raises(OSError, match="Read-only"):
        (pod / "file").write_text("data")
    assert "rw" in mount_line(volume.staging)[1]


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_volume_for_readers(claim: MakeClaim, filesystem: str) -> None:
    source = claim(filesystem=filesystem)
    write(source.use())
    source.unpublish()
    source.unstage()
    readers = claim(filesystem=filesystem, mode=Mode.MULTI_NODE_READER_ONLY, source=source)
    first = readers.use("first")
    second = readers.publish("second")

    assert (first / "file").read_text() == "data" == (second / "file").read_text()
    for path in (readers.staging, first, second):
        assert "ro" in mount_line(path)[1]
    assert Path(f"/sys/block/{Path(readers.device).name}/ro").read_text().strip() == "1"


@pytest.mark.parametrize(("filesystem", "flag"), [("ext4", "noload"), ("xfs", "norecovery")])
def test_readers_do_not_get_half_of_a_volume_unasked(claim: MakeClaim, filesystem: str, flag: str) -> None:
    """A copy of a volume in use has a journal, which a device that may not be written cannot take in."""
    source = claim(filesystem=filesystem)
    write(source.use())
    readers = claim(filesystem=filesystem, mode=Mode.MULTI_NODE_READER_ONLY, source=source)
    with fails(Code.FAILED_PRECONDITION, "journal", flag):
        readers.stage()
    readers.capability.mount.mount_flags.append(flag)
    assert "norecovery" in mount_line(readers.use())[1]  # ext4 calls noload so, too


def test_a_device_that_is_write_protected_is_not_given_to_a_writer(claim: MakeClaim) -> None:
    """mount would mount it read-only, and end well."""
    volume = claim(filesystem="xfs")
    write(volume.use())
    volume.unpublish()
    volume.unstage()
    subprocess.run(["losetup", "--find", "--read-only", volume.file], check=True)
    held = os.open(volume.device, os.O_RDONLY | os.O_EXCL)
    try:
        # It cannot be taken away either, as somebody has it.
        with fails(Code.UNAVAILABLE, "is write-protected", "could not be released"):
            volume.stage()
    finally:
        os.close(held)
    assert (volume.use() / "file").read_text() == "data"


def test_a_filesystem_that_the_kernel_has_stopped_is_mounted_anew_for_the_next_pod(claim: MakeClaim) -> None:
    """kubelet stages a volume once for all pods that come one after the other."""
    volume = claim(flags=("errors=remount-ro",), mode=Mode.SINGLE_NODE_MULTI_WRITER)
    write(volume.use("first"))
    Path(f"/sys/fs/ext4/{Path(volume.device).name}/trigger_fs_error").write_text("1")
    second = volume.publish("second")
    with pytest.raises(OSError, match="Read-only"):  # as long as another has it
        (second / "other").write_text("data")
    volume.unpublish("first")
    volume.unpublish("second")

    third = volume.publish("third")

    (third / "other").write_text("data")
    assert (third / "file").read_text() == "data"


def test_readers_need_a_filesystem(claim: MakeClaim) -> None:
    with fails(Code.FAILED_PRECONDITION, "no filesystem"):
        claim(mode=Mode.MULTI_NODE_READER_ONLY).stage()


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_copy_is_used_beside_its_source_and_fills_its_larger_size(claim: MakeClaim, filesystem: str) -> None:
    """xfs and btrfs refuse a second filesystem with the UUID of a mounted one."""
    source = claim(filesystem=filesystem)
    pod = source.use()
    write(pod)
    copy = claim(filesystem=filesystem, source=source, gib=2)
    copied = copy.use()

    assert (copied / "file").read_text() == "data"
    assert size_of(copied) > 1.8
    write(copied, "of the copy")
    assert (pod / "file").read_text() == "data"


@pytest.mark.parametrize("filesystem", ["xfs", "btrfs"])
def test_grows_while_it_is_mounted(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    pod = volume.use()
    write(pod)
    assert volume.expand(3, pod) == 3 * GIB
    assert size_of(pod) > 2.8
    assert volume.expand(3, pod) == 3 * GIB  # again
    assert (pod / "file").read_text() == "data"


def test_ext4_grows_at_the_next_staging_where_the_kernel_forbids_it_while_mounted(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    write(pod)
    try:
        volume.expand(3, pod)
    except grpc.RpcError as error:
        assert error.code() == Code.FAILED_PRECONDITION
        assert "CAP_SYS_RESOURCE" in error.details()
        volume.unpublish()
        volume.unstage()
        pod = volume.use()
    assert size_of(pod) > 2.8
    assert (pod / "file").read_text() == "data"


def test_ext4_with_errors_grows_at_the_next_staging_and_not_while_it_is_mounted(claim: MakeClaim) -> None:
    volume = claim(flags=("errors=continue",))
    pod = volume.use()
    Path(f"/sys/fs/ext4/{Path(volume.device).name}/trigger_fs_error").write_text("1")
    with fails(Code.FAILED_PRECONDITION, "has recorded errors", "staged next"):
        volume.expand(2, pod)
    volume.unpublish()
    volume.unstage()
    assert size_of(volume.use()) > 1.8


def test_expansion_needs_the_controllers_first(claim: MakeClaim) -> None:
    volume = claim(filesystem="xfs")
    pod = volume.use()
    request = csi_pb2.NodeExpandVolumeRequest(
        volume_id=volume.id, volume_path=str(pod), capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB)
    )
    with fails(Code.OUT_OF_RANGE, "in the controller first"):
        volume.served.node.NodeExpandVolume(request)


def test_stats(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    write(pod, "x" * 10 * 1024**2)
    stats = volume.stats(pod)
    assert 0.8 * GIB < stats[Usage.BYTES].total < GIB
    assert 10 * 1024**2 <= stats[Usage.BYTES].used < 50 * 1024**2
    assert stats[Usage.BYTES].available <= stats[Usage.BYTES].total - stats[Usage.BYTES].used
    assert stats[Usage.INODES].total > stats[Usage.INODES].used > 1
    with fails(Code.NOT_FOUND, "volume_path"):
        volume.stats(volume.folder)
    with fails(Code.NOT_FOUND, "volume_id"):
        request = csi_pb2.NodeGetVolumeStatsRequest(volume_id="nothing", volume_path=str(pod))
        volume.served.node.NodeGetVolumeStats(request)


def test_health_of_a_volume_that_could_not_be_staged(claim: MakeClaim) -> None:
    """CSI, "NodeGetVolumeHealth": it may be asked for when the CO has recently attempted to stage the volume."""
    volume = claim()
    volume.publish_controller()
    node = volume.served.node
    request = csi_pb2.NodeGetVolumeHealthRequest(volume_id=volume.id, staging_target_path=str(volume.staging))
    with fails(Code.NOT_FOUND, "volume_id"):
        node.NodeGetVolumeHealth(request)
    with volume.file.open("r+b") as file:
        file.write(b"precious" * 1000)
    with fails(Code.FAILED_PRECONDITION, "not zero"):
        volume.stage()
    (problem,) = node.NodeGetVolumeHealth(request).volume_health.health_statuses
    assert (problem.status, problem.reason) == (csi_pb2.INACCESSIBLE, "StageFailed")
    assert "not zero" in problem.message
    volume.unstage()
    with fails(Code.NOT_FOUND, "volume_id"):
        node.NodeGetVolumeHealth(request)
    with volume.file.open("r+b") as file:
        file.write(bytes(8000))
    volume.stage()
    assert not node.NodeGetVolumeHealth(request).volume_health.health_statuses


def test_health_of_a_volume_that_is_gone_from_the_storage(claim: MakeClaim) -> None:
    volume = claim()
    volume.publish_controller()
    away = volume.file.rename(volume.file.with_name("away"))
    with pytest.raises(grpc.RpcError):
        volume.stage()
    assert volume.health() == ["StageFailed"]
    away.rename(volume.file)
    volume.unstage()
    with fails(Code.NOT_FOUND, "volume_id"):
        volume.health()


def test_health(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    assert volume.health() == []
    subprocess.run(["mount", "-o", "remount,ro", volume.device, str(volume.staging)], check=True)
    assert volume.health() == ["FilesystemReadOnly"]
    subprocess.run(["mount", "-o", "remount,rw", volume.device, str(volume.staging)], check=True)
    assert volume.health() == []
    volume.unpublish()
    assert not pod.exists()
    subprocess.run(["umount", str(volume.staging)], check=True)
    assert volume.health() == ["NotMounted"]
    subprocess.run(["losetup", "--detach", volume.device], check=True)
    assert volume.health() == ["DeviceGone"]
    health = volume.served.node.NodeGetStorageHealth(csi_pb2.NodeGetStorageHealthRequest()).backend_health
    assert [entry.reason for entry in health] == ["DevicesGone"]
    volume.stage()
    assert volume.health() == []
    with fails(Code.NOT_FOUND):
        volume.served.node.NodeGetVolumeHealth(csi_pb2.NodeGetVolumeHealthRequest(volume_id="nothing"))


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_what_a_backup_tool_restored_as_raw_block_is_bound_as_a_filesystem(claim: MakeClaim, filesystem: str) -> None:
    """By another PersistentVolume of the same handle: what the volume holds counts, not how it was created."""
    source, restored = claim(filesystem=filesystem), claim("restored", block=True)
    write(source.use())
    source.unpublish()
    source.unstage()
    subprocess.run(["dd", f"if={source.file}", f"of={restored.use()}", "bs=1M", "conv=sparse,fsync"], check=True)
    restored.unpublish()
    restored.unstage()
    unpublish = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=restored.id, node_id="test-node")
    restored.served.controller.ControllerUnpublishVolume(unpublish)

    restored.context, restored.capability = {}, capability(filesystem)
    validate = csi_pb2.ValidateVolumeCapabilitiesRequest(
        volume_id=restored.id, volume_capabilities=[restored.capability], volume_context=restored.volume.volume_context
    )
    assert restored.served.controller.ValidateVolumeCapabilities(validate).HasField("confirmed")
    pod = restored.use()
    assert (pod / "file").read_text() == "data"
