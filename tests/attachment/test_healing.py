"""Paths of attached volumes that are lost are added again, and nothing that is there is touched. The kernel's tables
and programs are a test's own: this machine has no SCSI."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.csi import MIB
from tests.support.fake_host import WWID, FakeHost, HostError

pytestmark = pytest.mark.root

FIRST, DEAD = "127.0.0.1:3260", "127.0.0.1:1"
NAME = "iqn.2026-11.org.example:volume"
MAP = "mpath-36001405aaaa"
DESTRUCTIVE = r"--logout|--op delete|multipath -f|multipathd del|luksClose|nvme disconnect"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A loop device, whose number the fake host's devices have."""
    (tmp_path / "disk").write_bytes(bytes(MIB))
    done = subprocess.run(
        ["losetup", "--find", "--show", tmp_path / "disk"], capture_output=True, text=True, check=True
    )
    yield done.stdout.strip()
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@pytest.fixture
def portal() -> Iterator[str]:
    """A portal that answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path / "host")
    # multipathd is there, and checking a map fails, as it does while paths flap.
    host.program("multipath", 'case "$1" in -C) exit 1 ;; esac')
    for name in ("multipathd", "lsblk", "cryptsetup", "udevadm"):
        host.program(name)
    return host


def with_sessions(host: FakeHost, *portals: str, login: str = "true") -> None:
    """iscsiadm, which knows sessions numbered from 1; ``login``: what a login does."""
    lines = "\n".join(f"tcp: [{number}] {portal},1 {NAME} (non-flash)" for number, portal in enumerate(portals, 1))
    host.program(
        "iscsiadm",
        f"""
sessions="{lines}"
case "$*" in
    "-m session") echo "$sessions"; cat "$SYS/../logged-in" 2>/dev/null || true ;;
    *--login) {login} ;;
esac
""",
    )


def connection(*portals: str) -> dict[str, Any]:
    return {
        "driver_volume_type": "iscsi",
        "data": {
            "target_portals": list(portals),
            "target_iqns": [NAME] * len(portals),
            "target_luns": [0] * len(portals),
            "target_portal": portals[0],
            "target_iqn": NAME,
            "target_lun": 0,
        },
    }


def heal(host: FakeHost, connection_info: dict[str, Any], path: str, *, multipath: bool = True) -> Any:
    return host.run(
        "csi_plugin.attachment.healing:heal",
        connection_info,
        path,
        identity="",
        multipath=multipath,
        read_only=False,
        root_helper="sudo",
    )


def comes_with_login(host: FakeHost, portal: str, disk: str, *, wwid: str = WWID) -> str:
    """The shell's words that make the second session, with a disk, appear."""
    later = host.folder / "later"
    other = FakeHost(later)
    other.session(2, NAME, portal, {0: disk}, wwid=wwid)
    node = (other.dev / disk).stat().st_rdev
    return (
        f'cp -a {later}/sys/. "$SYS"/ && mknod "$DEV/{disk}" b {node >> 8} {node & 255};'
        f' echo "tcp: [2] {portal},1 {NAME} (non-flash)" >"$SYS/../logged-in"'
    )


def test_missing_path_is_added_and_nothing_else_is_done(host: FakeHost, device: str, portal: str) -> None:
    host.session(1, NAME, FIRST, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    with_sessions(host, FIRST, login=comes_with_login(host, portal, "sdb"))
    assert heal(host, connection(FIRST, portal), "/dev/dm-0") is None
    assert host.called(rf"-p {portal} --login")
    assert not host.called(rf"-p {FIRST} --login")
    assert host.called("multipathd add path /dev/sdb")
    assert not host.called(DESTRUCTIVE)


def test_healing_that_fails_leaves_what_is_there(host: FakeHost, device: str, portal: str) -> None:
    host.session(1, NAME, FIRST, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    with_sessions(host, FIRST, login="exit 8")
    with pytest.raises(HostError, match="show no disk of"):
        heal(host, connection(FIRST, portal), "/dev/dm-0")
    with pytest.raises(HostError, match="1 of 2 portals can be reached"):
        heal(host, connection(FIRST, DEAD), "/dev/dm-0")
    assert not host.called(DESTRUCTIVE)


def test_path_of_another_volume_does_not_join(host: FakeHost, device: str, portal: str) -> None:
    host.session(1, NAME, FIRST, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    with_sessions(host, FIRST, login=comes_with_login(host, portal, "sdb", wwid="naa.6001405bbbb"))
    with pytest.raises(HostError, match="lead to another volume"):
        heal(host, connection(FIRST, portal), "/dev/dm-0")
    assert not host.called("multipathd add")
    assert not host.called(DESTRUCTIVE)


def test_attaching_that_fails_leaves_what_is_in_use(host: FakeHost, device: str, portal: str) -> None:
    """A volume that is staged again while it is mounted somewhere, or held by LUKS."""
    host.session(1, NAME, portal, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    host.map("dm-1", "CRYPT-LUKS2-aa-crypt-volume", ["dm-0"])
    with_sessions(host, portal)
    with pytest.raises(HostError, match="multipath -C"):
        host.run("csi_plugin.attachment.devices:attach", connection(portal), multipath=True)
    assert not host.called(DESTRUCTIVE)


def test_luks_over_a_single_path_is_no_map(host: FakeHost, device: str, portal: str) -> None:
    host.session(1, NAME, portal, {0: "sda"}, shows=device)
    host.map("dm-1", "CRYPT-LUKS2-aa-crypt-volume", ["sda"])
    with_sessions(host, portal)
    found = host.run("csi_plugin.attachment.healing:find", connection(portal), multipath=True, root_helper="sudo")
    assert found["path"] == "/dev/sda"
    paths = host.run(
        "csi_plugin.attachment.devices:expected_paths", connection(portal, DEAD), "/dev/sda", multipath=True
    )
    assert paths == 1


@pytest.mark.parametrize("over_map", [True, False])
def test_unit_that_is_another_volumes_by_now_is_left_alone(
    host: FakeHost, device: str, portal: str, over_map: bool
) -> None:
    """The storage has given the unit's number to another volume, which this host uses."""
    host.session(1, NAME, portal, {0: "sda"}, wwid="naa.6001405bbbb", shows="" if over_map else device)
    if over_map:
        host.map("dm-0", "mpath-36001405bbbb", ["sda"], shows=device)
    with_sessions(host, portal)
    path, identity = ("/dev/dm-0", f"dm/uuid {MAP}") if over_map else ("/dev/sda", f"device/wwid {WWID}")
    host.run(
        "csi_plugin.attachment.devices:detach",
        connection(portal),
        {"type": "block", "path": path},
        multipath=over_map,
        identity=identity,
    )
    assert not host.called(DESTRUCTIVE)


def test_map_with_paths_of_another_volume_is_not_used(host: FakeHost, device: str, portal: str) -> None:
    """Two hosts with one configuration give two volumes one name, and multipathd joins them."""
    host.session(1, NAME, portal, {0: "sda"})
    host.session(2, "iqn.2026-11.org.example:other", "192.0.2.2:3260", {0: "sdb"})
    host.map("dm-0", MAP, ["sda", "sdb"], shows=device)
    host.program("multipath")
    with_sessions(host, portal)
    with pytest.raises(HostError, match=r"sdb \(iqn.2026-11.org.example:other at 192.0.2.2 port 3260\)") as error:
        host.run("csi_plugin.attachment.devices:attach", connection(portal), multipath=True)
    assert error.value.kind == "OtherVolume"
    # What is the other's stays; this volume's own goes at once.
    assert not host.called("multipath -f|sdb")
    assert host.called(rf"-p {portal} --logout")
    assert (host.sys / "block/sda/device/delete").read_text().strip() == "1"


def test_map_of_the_volumes_own_paths_is_used(host: FakeHost, device: str, portal: str) -> None:
    host.session(1, NAME, portal, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    host.program("multipath")
    with_sessions(host, portal)
    attached = host.run("csi_plugin.attachment.devices:attach", connection(portal), multipath=True)
    assert attached["path"] == "/dev/dm-0"
    assert not host.called(DESTRUCTIVE)
