"""Rules of the node that need neither a server nor root: requests, mount and mkfs options, states, statistics."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.node import ext_superblock, mounts, stats, validation, volume_state
from csi_plugin.node.stage import check_same
from csi_plugin.node.stage_spec import StageSpec, parse_stage_spec
from csi_plugin.node.volume_state import VolumeState, VolumeStates
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError
from csi_plugin.units import MIB

Mode = csi_pb2.VolumeCapability.AccessMode


def stage_request(*, mode: int = Mode.SINGLE_NODE_WRITER, filesystem: str = "", flags: tuple[str, ...] = ()) -> Any:
    return csi_pb2.NodeStageVolumeRequest(
        volume_id="volume-1",
        staging_target_path="/staging",
        publish_context={"connection": "c2VhbGVk"},
        volume_context={"mkfs_options": "-L letters"},
        secrets={"passphrase": "hunter2"},
        volume_capability=csi_pb2.VolumeCapability(
            access_mode=Mode(mode=mode),
            mount=csi_pb2.VolumeCapability.MountVolume(fs_type=filesystem, mount_flags=flags),
        ),
    )


def spec(**changes: Any) -> StageSpec:
    return parse_stage_spec(stage_request(**changes))


def test_spec_is_what_the_request_says() -> None:
    found = spec(mode=Mode.MULTI_NODE_READER_ONLY, filesystem="xfs", flags=("noatime",))
    assert found.read_only
    assert found.access_mode == "MULTI_NODE_READER_ONLY"
    assert (found.access_type, found.filesystem, found.mount_flags) == ("mount", "xfs", ("noatime",))
    assert (found.mkfs_options, found.sealed_connection) == ("-L letters", "c2VhbGVk")
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "flag", ["noatime", "nodev", "data=ordered", "uid=0", "commit=5", "errors=remount-ro", "_netdev", "ro"]
)
def test_mount_flags_that_are_allowed(flag: str) -> None:
    validation.check_stage(stage_request(flags=(flag,)))


@pytest.mark.parametrize("flag", ["noatime,suid", "a b", "x;y", "", "'", "a\nb", "$(reboot)", "-o", "--bind"])
def test_mount_flags_that_are_more_than_a_flag(flag: str) -> None:
    with pytest.raises(RpcError, match="mount_flags") as caught:
        validation.check_stage(stage_request(flags=(flag,)))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("flags", "read_only"), [((), False), (("ro",), True), (("ro", "rw"), False), (("rw",), False)]
)
def test_a_mount_flag_makes_a_volume_read_only(flags: tuple[str, ...], read_only: bool) -> None:
    assert spec(flags=flags).read_only is read_only
    assert spec(flags=flags, mode=Mode.SINGLE_NODE_READER_ONLY).read_only


@pytest.mark.parametrize("path", ["/a", "/a/b c", "/a/..b"])
def test_paths_that_are_allowed(path: str) -> None:
    validation.check_path(path, field="target_path")


@pytest.mark.parametrize("path", ["", "/", "a/b", "/a/../b", "/a/..", "/a\0b"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(RpcError, match="target_path must be an absolute path"):
        validation.check_path(path, field="target_path")


@pytest.mark.parametrize(
    ("required", "limit", "words"), [(-1, 0, "negative"), (0, -1, "negative"), (2, 1, "must not be more than")]
)
def test_capacity_ranges_that_are_refused(required: int, limit: int, words: str) -> None:
    capacity = csi_pb2.CapacityRange(required_bytes=required, limit_bytes=limit)
    with pytest.raises(RpcError, match=words):
        validation.check_expand(
            csi_pb2.NodeExpandVolumeRequest(volume_id="v", volume_path="/v", capacity_range=capacity)
        )


@pytest.mark.parametrize(
    ("filesystem", "flags", "read_only", "options"),
    [
        ("ext4", [], False, ["nodev", "nosuid", "errors=continue"]),
        ("ext4", ["errors=remount-ro", "ro"], False, ["nodev", "nosuid", "errors=remount-ro"]),
        ("ext4", ["noload", "rw"], True, ["nodev", "nosuid", "noload", "errors=continue", "ro"]),
        ("xfs", ["suid"], False, ["nodev", "nosuid", "suid", "nouuid"]),
        ("xfs", ["nouuid"], True, ["nodev", "nosuid", "nouuid", "ro"]),
        ("btrfs", ["compress=zstd", "dev"], True, ["nodev", "nosuid", "compress=zstd", "dev", "ro"]),
    ],
)
def test_mount_options(filesystem: str, flags: list[str], read_only: bool, options: list[str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    subprocess.run(["mkfs.ext4", "-q", disk, "8M"], check=True)
    assert mounts.with_needed_options(str(disk), filesystem, flags, read_only=read_only) == options


@pytest.mark.parametrize("options", ["-b 1024", "-b 4096 -O 64bit", "-b 1024 -O ^64bit"])
def test_size_of_a_filesystem_is_what_its_superblock_says(options: str, tmp_path: Path) -> None:
    """Programs that print it print lines of whoever made the filesystem, too."""
    disk = tmp_path / "disk"
    subprocess.run(["mkfs.ext4", "-q", *options.split(), disk, "8M"], check=True)
    subprocess.run(["tune2fs", "-L", "x\nBlock count:a", "-E", "mount_opts=x\nBlock size: a", disk], check=True)
    assert ext_superblock.read(str(disk)).size == 8 * MIB


def test_what_an_earlier_attempt_saw_of_the_content_holds() -> None:
    previous = volume_state.begin(spec(), None)
    previous.formatted = previous.encrypted = previous.staged = True
    previous.device_path = "/dev/loop7"
    state = volume_state.begin(spec(filesystem="ext4"), previous)
    assert (state.formatted, state.encrypted) == (True, True)
    assert (state.staged, state.device_path, state.filesystem) == (False, "", "ext4")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"flags": ("noatime",)}, "mount_flags"),
        ({"filesystem": "xfs"}, "filesystem"),
        ({"mode": Mode.SINGLE_NODE_MULTI_WRITER}, "access_mode"),
    ],
)
def test_staging_that_differs(changes: dict[str, Any], word: str) -> None:
    state = volume_state.begin(spec(filesystem="ext4"), None)
    check_same(state, spec(filesystem="ext4"))
    check_same(state, spec())  # any filesystem
    with pytest.raises(RpcError, match=word) as caught:
        check_same(state, spec(**{"filesystem": "ext4", **changes}))
    assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS


STORED = {
    "volume_id": "volume-1",
    "staging_path": "/staging",
    "access_type": "mount",
    "access_mode": "SINGLE_NODE_WRITER",
    "filesystem": "ext4",
    "mount_flags": ["noatime"],
    "sealed": "c2VhbGVk",
    "read_only": False,
    "device": {"type": "block", "path": "/dev/sdb"},
    "path": "/dev/mapper/crypt-volume-1",
    "paths": 2,
    "identity": "wwid naa.6",
    "encrypted": True,
    "formatted": True,
    "staged": True,
    "targets": {"/pod": False},
}
"""A file as version 1.0 has written it: its keys must stay."""


def test_states_survive_an_upgrade() -> None:
    state = volume_state.from_json(STORED)
    assert state.sealed_connection == "c2VhbGVk"
    assert state.device_info == {"type": "block", "path": "/dev/sdb"}
    assert (state.device_path, state.path_count) == ("/dev/mapper/crypt-volume-1", 2)
    assert state.device_identity == "wwid naa.6"
    assert volume_state.to_json(state) == {**STORED, "attached_identity": "", "unfenced": False, "formatting": False}


@pytest.mark.parametrize("name", STORED)
def test_states_with_values_of_another_kind_are_damaged(tmp_path: Path, name: str) -> None:
    """They would be believed, and each call that meets them would fail for ever."""
    states = VolumeStates(tmp_path)
    states.save(volume_state.from_json(STORED))
    (file,) = tmp_path.iterdir()
    for value in (None, "a\0b", 5, True, ["x", 1], {"path": 1}, {"/pod": "no"}, {}, "other"):
        if type(value) is type(STORED[name]) and value in ("other", 5, True, {}) and name != "volume_id":
            continue  # as good as another
        if (name, value) == ("device", None):
            continue  # not attached yet
        file.write_text(json.dumps({**STORED, name: value}))
        with pytest.raises(volume_state.StateUnreadable, match="stage the volume again"):
            states.load("volume-1")


def test_states_are_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    states = VolumeStates(tmp_path / "volumes")
    assert list(states.all()) == []
    assert states.load("../volume") is None
    state = VolumeState(volume_id="../volume", staging_path="/s", access_type="block", access_mode="SINGLE_NODE_WRITER")
    states.save(state)
    assert states.load("../volume") == state
    assert list(states.all()) == [state]
    (file,) = (tmp_path / "volumes").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["volume_id"] == "../volume"
    states.remove("../volume")
    states.remove("../volume")
    assert list((tmp_path / "volumes").iterdir()) == []


def test_damaged_states_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text('{"unknown": 1}')
    assert list(VolumeStates(tmp_path).all()) == []
    assert caplog.text.count("is damaged and ignored") == 2


def counts(*, files: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1000, 400, 300, files, files // 2, files // 2, 0, 255))


def test_usage_counts_bytes_and_inodes() -> None:
    in_bytes, inodes = stats.filesystem_usage(counts(files=100))
    assert (in_bytes.total, in_bytes.available, in_bytes.used) == (4096 * 1000, 4096 * 300, 4096 * 600)
    assert (inodes.total, inodes.available, inodes.used) == (100, 50, 50)


def test_usage_of_a_filesystem_without_a_number_of_inodes() -> None:
    assert [usage.unit for usage in stats.filesystem_usage(counts(files=0))] == [csi_pb2.VolumeUsage.BYTES]
