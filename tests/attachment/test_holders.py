"""What a host has built on a volume by itself: logical volumes, arrays, partitions. Its kernel is a test's own."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.csi import MIB
from tests.support.fake_host import FakeHost

pytestmark = pytest.mark.root


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A volume of two paths, in which there are a logical volume, an array, and a partition's map."""
    host = FakeHost(tmp_path / "host")
    host.disk("sda", "devices/a")
    host.disk("sdb", "devices/b")
    host.map("dm-0", "mpath-36001405aaaa", ["sda", "sdb"])
    host.map("dm-1", "part1-mpath-36001405aaaa", ["dm-0"], dm_name="36001405aaaa-part1")
    host.map("dm-2", "LVM-aaaa", ["dm-1"], dm_name="data-one")
    host.program("dmsetup", 'case "$1" in info) cat "$SYS/../open-$6" 2>/dev/null || echo 0 ;; esac')
    host.program("mdadm")
    (host.folder / "open-36001405aaaa-part1").write_text("1")
    return host


def blockers(host: FakeHost) -> list[str]:
    found: list[str] = host.run("csi_plugin.attachment.holders:blockers", "/dev/dm-0")
    return found


def test_what_nobody_uses_is_deactivated_from_the_top(host: FakeHost) -> None:
    assert blockers(host) == []
    assert not host.called("remove")
    host.run("csi_plugin.attachment.holders:release", "/dev/dm-0")
    assert [call.split()[-1] for call in host.called("dmsetup remove")] == ["data-one", "36001405aaaa-part1"]


@pytest.mark.parametrize("is_used", [False, True])
def test_array_is_stopped(host: FakeHost, tmp_path: Path, is_used: bool) -> None:
    """One that a pod made inside of its raw volume, on top of a logical volume, and that udev has assembled."""
    (tmp_path / "disk").write_bytes(bytes(MIB))
    shown = subprocess.run(
        ["losetup", "--find", "--show", tmp_path / "disk"], capture_output=True, text=True, check=True
    ).stdout.strip()
    host.array("md127", ["dm-2"], shows=shown)
    (host.folder / "open-data-one").write_text("1")
    user = os.open(shown, os.O_RDONLY | os.O_EXCL) if is_used else None
    try:
        assert blockers(host) == (["md127 (in use)"] if is_used else [])
        if not is_used:
            host.run("csi_plugin.attachment.holders:release", "/dev/dm-0")
            taken = host.called("mdadm|dmsetup remove")
            assert taken[0] == "mdadm --stop /dev/md127"
            assert [call.split()[-1] for call in taken[1:]] == ["data-one", "36001405aaaa-part1"]
    finally:
        if user is not None:
            os.close(user)
        subprocess.run(["losetup", "--detach", shown], check=True)


def test_array_with_a_logical_volume_on_it_is_stopped(host: FakeHost, tmp_path: Path) -> None:
    """Which keeps it from everybody else."""
    (tmp_path / "disk").write_bytes(bytes(MIB))
    shown = subprocess.run(
        ["losetup", "--find", "--show", tmp_path / "disk"], capture_output=True, text=True, check=True
    ).stdout.strip()
    host.array("md127", ["dm-0"], shows=shown)
    host.map("dm-3", "LVM-bbbb", ["md127"], dm_name="inner-one")
    (host.folder / "open-data-one").write_text("0")
    user = os.open(shown, os.O_RDONLY | os.O_EXCL)
    try:
        assert blockers(host) == []
        (host.folder / "open-inner-one").write_text("1")
        assert blockers(host) == ["inner-one (open)"]
    finally:
        os.close(user)
        subprocess.run(["losetup", "--detach", shown], check=True)
    host.run("csi_plugin.attachment.holders:release", "/dev/dm-0")
    taken = [call.split()[-1] for call in host.called("mdadm|dmsetup remove")]
    assert taken.index("inner-one") < taken.index("/dev/md127")


def test_array_that_is_on_another_device_too_is_named(host: FakeHost) -> None:
    host.disk("sdz", "devices/z")
    host.array("md127", ["dm-0", "sdz"])
    assert blockers(host) == ["md127 (also on sdz)"]


def test_what_is_open_is_named(host: FakeHost) -> None:
    (host.folder / "open-data-one").write_text("1")
    assert blockers(host) == ["data-one (open)"]


def test_what_is_on_another_device_too_is_named(host: FakeHost) -> None:
    host.disk("sdz", "devices/z")
    host.map("dm-3", "LVM-bbbb", ["dm-1", "sdz"], dm_name="data-two")
    (host.folder / "open-36001405aaaa-part1").write_text("2")
    assert blockers(host) == ["data-two (also on sdz)"]


def test_what_only_a_person_makes_is_named(host: FakeHost) -> None:
    host.map("dm-3", "CRYPT-LUKS2-aaaa", ["dm-2"], dm_name="secret")
    (host.folder / "open-data-one").write_text("1")
    assert blockers(host) == ["secret (in use)"]
