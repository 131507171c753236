"""Paths of attached volumes that are lost are added again, and nothing that is there is touched. The kernel's tables
and programs are a test's own: this machine has no SCSI."""

import fcntl
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_host import WWID, FakeHost, HostError
from tests.support.polling import wait_until

pytestmark = pytest.mark.root

FIRST, SECOND, DEAD = "127.0.0.1:3260", "192.0.2.2:3260", "127.0.0.1:1"
NAME = "iqn.2026-11.org.example:volume"
MAP = "mpath-36001405aaaa"
DESTRUCTIVE = r"--logout|--op delete|multipath -f|multipathd del|luksClose|nvme disconnect"


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


@pytest.mark.parametrize("has_stale_name", [False, True])
def test_path_that_is_there_and_not_in_the_map_is_added(host: FakeHost, device: str, has_stale_name: bool) -> None:
    """multipathd has not been told of it, or the kernel had it under the name of the unit's last volume then."""
    host.session(1, NAME, FIRST, {0: "sda"})
    host.session(2, NAME, SECOND, {0: "sdb"}, wwid="naa.6001405bbbb" if has_stale_name else WWID)
    host.map("dm-0", MAP, ["sda"], shows=device)
    host.program("tee", f'cat >"$1"; case "$1" in */sdb/device/rescan) echo {WWID} >"${{1%rescan}}wwid" ;; esac')
    with_sessions(host, FIRST, SECOND)
    assert heal(host, connection(FIRST, SECOND), "/dev/dm-0") is None
    assert host.called("multipathd add path /dev/sdb")
    assert not host.called("--login")
    assert not host.called(DESTRUCTIVE)


def test_path_that_is_there_and_leads_to_another_volume_is_not_added(host: FakeHost, device: str) -> None:
    host.session(1, NAME, FIRST, {0: "sda"})
    host.session(2, NAME, SECOND, {0: "sdb"}, wwid="naa.6001405bbbb")
    host.map("dm-0", MAP, ["sda"], shows=device)
    with_sessions(host, FIRST, SECOND)
    with pytest.raises(HostError, match="come back by themselves"):
        heal(host, connection(FIRST, SECOND), "/dev/dm-0")
    assert not host.called("multipathd add")
    assert not host.called(DESTRUCTIVE)


@pytest.mark.parametrize("is_own", [True, False])
def test_path_that_the_kernel_has_switched_off_comes_back(host: FakeHost, device: str, is_own: bool) -> None:
    """Its error handling does that, and nobody takes it back. By now the unit may be another volume's, so nothing is
    written over that path before it has told its name."""
    host.session(1, NAME, FIRST, {0: "sda"})
    host.session(2, NAME, SECOND, {0: "sdb"})
    host.map("dm-0", MAP, ["sda", "sdb"], shows=device)
    (host.sys / "block/sdb/device/state").write_text("offline")
    assert host.run("csi_plugin.attachment.host_tables:path_count", "/dev/dm-0") == 1
    slave = '"$SYS/devices/virtual/block/dm-0/slaves/sdb"'
    host.program("multipathd", f'case "$*" in "del path /dev/sdb") rm {slave} ;; esac')
    name = WWID if is_own else "naa.6001405bbbb"
    tell = f'*/sdb/device/state) [ ! -e {slave} ] ;; */sdb/device/rescan) echo {name} >"${{1%rescan}}wwid" ;;'
    host.program("tee", f'cat >"$1"; case "$1" in {tell} esac')
    with_sessions(host, FIRST, SECOND)
    if is_own:
        assert heal(host, connection(FIRST, SECOND), "/dev/dm-0") is None
    else:
        with pytest.raises(HostError, match="come back by themselves"):
            heal(host, connection(FIRST, SECOND), "/dev/dm-0")
    assert (host.sys / "block/sdb/device/state").read_text() == ("running" if is_own else "offline")
    assert len(host.called("multipathd add path /dev/sdb")) == is_own
    assert not host.called("/dev/sda|multipath -f|--logout")


def test_only_path_that_the_kernel_has_switched_off_stays(host: FakeHost, device: str) -> None:
    host.session(1, NAME, FIRST, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    (host.sys / "block/sda/device/state").write_text("offline")
    with_sessions(host, FIRST)
    with pytest.raises(HostError, match="come back by themselves"):
        heal(host, connection(FIRST), "/dev/dm-0")
    assert not host.called(DESTRUCTIVE)


def test_only_disk_that_the_kernel_has_switched_off_is_named_and_stays(host: FakeHost, device: str) -> None:
    """It could be another volume's by now, and would be asked only after whoever has it has written to it."""
    host.session(1, NAME, FIRST, {0: "sda"}, shows=device)
    (host.sys / "block/sda/device/state").write_text("offline")
    with_sessions(host, FIRST)
    with pytest.raises(HostError, match=r"switched it off after errors.*/sys/block/sda/device/state"):
        heal(host, connection(FIRST), "/dev/sda")
    assert host.run("csi_plugin.attachment.path_states:describe", "/dev/sda") == "device /dev/sda is offline"
    assert (host.sys / "block/sda/device/state").read_text() == "offline"
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


def test_portals_that_discovery_found_and_no_storage_has_are_left_out(host: FakeHost, device: str) -> None:
    """Storage tells of all of its addresses, which are link-local, too."""
    host.session(1, NAME, FIRST, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    portals = [FIRST.replace(":", ","), "fe80::1,3260", "169.254.1.1,3260", "192.0.2.2,3260"]
    found = [f"    Portal: {portal.replace(',', ':')},1\n        Iface Name: default" for portal in portals]
    record = "\n".join(["SENDTARGETS:", "DiscoveryAddress: 127.0.0.1,3260", f"Target: {NAME}", *found, "iSNS:"])
    host.program("iscsiadm", f"""case "$*" in *discoverydb*) echo "{record}" ;; esac""")
    named = connection(FIRST)
    for name in ("target_portals", "target_iqns", "target_luns"):
        del named["data"][name]
    assert host.run("csi_plugin.attachment.devices:expected_paths", named, "/dev/dm-0", multipath=True) == 2
    assert "fe80::1 is no address of storage" in host.said


@pytest.mark.parametrize("is_known", [True, False])
def test_as_many_paths_are_expected_as_discovery_found(host: FakeHost, device: str, is_known: bool) -> None:
    """Of a connection that names one portal of four. A host that has lost the record knows that one."""
    host.session(1, NAME, FIRST, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    found = [f"    Portal: 192.0.2.{number}:3260,1\n        Iface Name: default" for number in range(1, 5)]
    record = "\n".join(["SENDTARGETS:", "DiscoveryAddress: 127.0.0.1,3260", f"Target: {NAME}", *found, "iSNS:"])
    host.program("iscsiadm", f"""case "$*" in *discoverydb*) echo "{record if is_known else "iSNS:"}" ;; esac""")
    named = connection(FIRST)
    for name in ("target_portals", "target_iqns", "target_luns"):
        del named["data"][name]
    assert host.run("csi_plugin.attachment.devices:expected_paths", named, "/dev/dm-0", multipath=True) == (
        4 if is_known else 1
    )


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


@pytest.mark.parametrize("state", ["transport-offline", "running"])
def test_disk_that_the_kernel_has_given_up_is_detached(host: FakeHost, device: str, portal: str, state: str) -> None:
    """As when the storage has ended the node's access, and the session's time to come back has passed. Such a disk
    cannot be opened, and what its last user could not write is gone: there is nothing to flush."""
    host.session(1, NAME, portal, {0: "sda"}, shows=device)
    folder = host.sys / "block/sda/device"
    (folder / "state").write_text(state)
    with_sessions(host, portal)
    host.program("blockdev", "echo No such device or address >&2; exit 1")
    detach = ("csi_plugin.attachment.devices:detach", connection(portal), {"type": "block", "path": "/dev/sda"})
    if state == "running":
        with pytest.raises(HostError, match="No such device or address"):
            host.run(*detach, identity=f"device/wwid {WWID}")
        assert not host.called(DESTRUCTIVE)
        return

    def remove() -> None:  # as the kernel does
        wait_until(lambda: (folder / "delete").read_text().strip() == "1", lambda: host.calls)
        (host.dev / "sda").unlink()

    with ThreadPoolExecutor() as kernel:
        removed = kernel.submit(remove)
        host.run(*detach, identity=f"device/wwid {WWID}")
        removed.result()
    assert host.called(rf"-p {portal} --logout")


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


def appears(host: FakeHost, device: str, portal: str) -> str:
    """The shell's words that make a session and the map over its disk appear."""
    other = FakeHost(host.folder / "later")
    other.session(2, NAME, portal, {0: "sdb"})
    other.map("dm-0", MAP, ["sdb"], shows=device)
    nodes = {name: (other.dev / name).stat().st_rdev for name in ("sdb", "dm-0")}
    made = "; ".join(f'mknod "$DEV/{name}" b {number >> 8} {number & 255}' for name, number in nodes.items())
    return (
        f'cp -a {host.folder}/later/sys/. "$SYS"; {made}; '
        f'echo "tcp: [2] {portal},1 {NAME} (non-flash)" >"$SYS/../logged-in"'
    )


def test_portals_that_do_not_answer_are_left_out(host: FakeHost, device: str, portal: str) -> None:
    with_sessions(host, login=appears(host, device, portal))
    host.program("multipath")
    attached = host.run(
        "csi_plugin.attachment.devices:attach", connection(DEAD, portal), multipath=True, scan_attempts=1
    )
    assert attached["path"] == "/dev/dm-0"
    assert "left out" in host.said
    assert not host.called(rf"{DEAD}.*--login")


def test_portal_with_an_ipv6_address_needs_no_brackets(host: FakeHost, device: str) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with_sessions(host, login=appears(host, device, f"[::1]:{port}"))
        host.program("multipath")
        info = connection(f"::1:{port}")
        attached = host.run("csi_plugin.attachment.devices:attach", info, multipath=True, scan_attempts=1)
    assert attached["path"] == "/dev/dm-0"
    assert host.called(rf"-p \[::1\]:{port} --login")
    host.run("csi_plugin.attachment.devices:detach", info, attached, multipath=True)
    assert host.called(rf"-p \[::1\]:{port} --logout")


def test_no_portal_answers(host: FakeHost) -> None:
    with_sessions(host)
    for several in (True, False):
        with pytest.raises(HostError, match=rf"no portal of the storage answers this node \({DEAD}\)") as error:
            host.run("csi_plugin.attachment.devices:attach", connection(DEAD), multipath=several)
        assert error.value.kind == "AttachmentError"
    assert not host.called("--login")


def test_volumes_of_other_targets_do_not_wait(host: FakeHost, device: str, portal: str) -> None:
    """os-brick has one lock for the whole host; here, a login that takes long holds up its own target only."""
    host.program("multipath")
    host.program("iscsiadm")
    with_sessions(host, login=appears(host, device, portal))
    attach_as = {"driver_volume_type": "iscsi", "data": connection(portal)["data"]}
    other = zlib.crc32(b"iqn.2026-11.org.example:other") % 64
    with (
        os_brick_held(host, f"iscsi-targets-{other}", fcntl.LOCK_EX),
        os_brick_held(host, "connect_volume", fcntl.LOCK_SH),
    ):
        attached = host.run("csi_plugin.attachment.devices:attach", attach_as, multipath=True)
    assert attached["path"] == "/dev/dm-0"


@contextmanager
def os_brick_held(host: FakeHost, name: str, kind: int) -> Iterator[None]:
    """In the block, another process has a lock of os-brick's."""
    locks = host.folder / "locks"
    locks.mkdir(exist_ok=True)
    with (locks / f"os-brick-{name}").open("w+") as file:
        fcntl.lockf(file, kind)
        yield


SUBSYSTEM = "nqn.2026-11.org.example:volume"


def nvme_connection(version: int, *addresses: str) -> dict[str, Any]:
    portals = [address.rpartition(":")[::2] for address in addresses]
    if version == 1:
        ((address, port),) = portals
        data = {"nqn": SUBSYSTEM, "target_portal": address, "target_port": port, "transport_type": "tcp"}
    else:
        data = {"target_nqn": SUBSYSTEM, "vol_uuid": None, "portals": [[*portal, "tcp"] for portal in portals]}
    return {"driver_volume_type": "nvmeof", "data": {**data, "ns_id": "1"}}


def nvme_controller(host: FakeHost, number: int, portal: str) -> None:
    folder = host.nvme_controller(number, portal, subsystem=SUBSYSTEM)
    host.write(f"{folder}/nvme0c{number}n1/nsid", "1")
    host.link(f"devices/virtual/nvme-subsystem/nvme-subsys0/nvme{number}", folder)


def test_missing_controller_of_an_nvme_volume_is_connected(host: FakeHost, device: str, portal: str) -> None:
    nvme_controller(host, 0, FIRST)
    host.block_device("nvme0n1", "devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", shows=device)
    host.program("nvme")
    both = nvme_connection(2, FIRST, portal)
    expected = host.run("csi_plugin.attachment.devices:expected_paths", both, "/dev/nvme0n1", multipath=True)
    present = host.run("csi_plugin.attachment.host_tables:path_count", "/dev/nvme0n1")
    assert (expected, present) == (2, 1)
    assert heal(host, both, "/dev/nvme0n1") is None
    (call,) = host.called("nvme connect")
    address, _, port = portal.rpartition(":")
    assert f"-a {address} -s {port} -t tcp -n {SUBSYSTEM}" in call
    with pytest.raises(HostError, match="1 of 2 portals can be reached"):
        heal(host, nvme_connection(2, FIRST, DEAD), "/dev/nvme0n1")
    with pytest.raises(HostError, match="come back by themselves"):
        heal(host, nvme_connection(1, FIRST), "/dev/nvme0n1")
    assert not host.called(DESTRUCTIVE)
    nvme_controller(host, 1, portal)
    assert host.run("csi_plugin.attachment.host_tables:path_count", "/dev/nvme0n1") == 2


@pytest.mark.parametrize("state", ["live", "connecting", "deleting", "deleting (no IO)", "dead"])
def test_controller_that_the_kernel_gives_up_is_connected_again(
    host: FakeHost, device: str, portal: str, state: str
) -> None:
    nvme_controller(host, 0, FIRST)
    nvme_controller(host, 1, portal)
    host.write("devices/virtual/nvme-fabrics/ctl/nvme1/state", state)
    host.block_device("nvme0n1", "devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", shows=device)
    host.program("nvme")
    if state in ("live", "connecting"):
        with pytest.raises(HostError, match="come back by themselves"):
            heal(host, nvme_connection(2, FIRST, portal), "/dev/nvme0n1")
    else:
        heal(host, nvme_connection(2, FIRST, portal), "/dev/nvme0n1")
    assert bool(host.called("nvme connect")) is (state not in ("live", "connecting"))


@pytest.mark.parametrize(
    ("is_published", "controllers_are", "others", "ends"),
    [
        (False, "connecting", (), True),
        (True, "connecting", (), False),
        (False, "live", (), False),
        (False, "connecting", ("nvme0n2",), False),
    ],
)
@pytest.mark.parametrize("is_native", [True, False])
def test_what_waits_for_controllers_of_a_volume_that_was_taken_away(
    host: FakeHost,
    device: str,
    is_published: bool,
    controllers_are: str,
    others: tuple[str, ...],
    ends: bool,
    is_native: bool,
) -> None:
    """The kernel would keep it, and whoever waits, for ever: the storage lets this node in no more. ``is_native``:
    whether the kernel does the multipath of NVMe by itself."""
    nvme_controller(host, 0, FIRST)
    folder = "devices/virtual/nvme-subsystem/nvme-subsys0"
    if not is_native:
        folder = "devices/virtual/nvme-fabrics/ctl/nvme0"
    host.write("devices/virtual/nvme-fabrics/ctl/nvme0/state", controllers_are)
    for name in ("nvme0n1", *others):
        host.block_device(name, f"{folder}/{name}", shows=device)
    host.program("nvme")
    host.run("tests.support.node_services:look_at_waiting", str(host.folder), "/dev/nvme0n1", is_published=is_published)
    assert host.called("nvme") == (["nvme disconnect --device nvme0"] if ends else [])


@pytest.mark.parametrize("usable", [0, 1, 2])
def test_paths_over_nvme_that_the_storage_lets_nobody_take(host: FakeHost, device: str, usable: int) -> None:
    """Their controllers are live; I/O waits for a path that is optimized, or not optimized."""
    folder = "devices/virtual/nvme-subsystem/nvme-subsys0"
    host.block_device("nvme0n1", f"{folder}/nvme0n1", shows=device)
    states = [("optimized", "non-optimized")[number] if number < usable else "inaccessible" for number in range(2)]
    for number, state in enumerate(states):
        nvme_controller(host, number, FIRST)
        controller = f"devices/virtual/nvme-fabrics/ctl/nvme{number}"
        host.link(f"{folder}/nvme{number}", controller)
        host.write(f"{controller}/nvme0c{number}n1/ana_state", state)
    host.program("nvme")
    said = host.run("csi_plugin.attachment.path_states:describe", "/dev/nvme0n1")
    assert said == f"device /dev/nvme0n1 is over NVMe, {usable} of 2 paths usable"
    found = host.run("tests.support.node_services:health_of", str(host.folder), "/dev/nvme0n1", path_count=2)
    assert found == {0: [["INACCESSIBLE", "PathsLost"]], 1: [["DEGRADED", "PathsLost"]], 2: []}[usable]
    host.run("tests.support.node_services:look_at_waiting", str(host.folder), "/dev/nvme0n1", is_published=False)
    ended = ["nvme disconnect --device nvme0", "nvme disconnect --device nvme1"]
    assert host.called("nvme") == ([] if usable else ended)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "ms_mode=prefer-crc"),
        ({"map_options": "queue_depth=256"}, "queue_depth=256,ms_mode=prefer-crc"),
        ({"map_options": "ms_mode=secure"}, "ms_mode=secure"),
    ],
)
def test_image_is_mapped_once_without_udev(host: FakeHost, device: str, given: dict[str, str], told: str) -> None:
    info = {
        "driver_volume_type": "rbd",
        "data": {
            "name": "pool/image",
            "hosts": ["192.0.2.1", "192.0.2.2"],
            "ports": ["3300", "3300"],
            "auth_username": "cinder",
            "cluster_name": "ceph",
            **given,
        },
    }
    node = Path(device).stat().st_rdev
    host.program(
        "rbd",
        f"""
if [ "$1" = map ]; then
    mkdir -p "$SYS/bus/rbd/devices/0"
    cd "$SYS/bus/rbd/devices/0"; echo pool >pool; echo image >name; echo - >current_snap
    mknod "$DEV/rbd0" b {node >> 8} {node & 255}; echo /dev/rbd0
fi
""",
    )
    host.block_device("loop", "devices/virtual/block/loop", shows=device)
    for _ in range(3):
        attached = host.run("csi_plugin.attachment.devices:attach", info)
    assert attached["path"] == "/dev/rbd0"
    (call,) = host.called("rbd map")
    assert f"--options {told}" in call
    host.write("bus/rbd/devices/1/pool", "pool")
    host.write("bus/rbd/devices/1/name", "image")
    host.write("bus/rbd/devices/1/current_snap", "-")
    host.write("bus/rbd/devices/2/pool", "pool")
    host.write("bus/rbd/devices/2/name", "other")
    host.write("bus/rbd/devices/2/current_snap", "-")
    host.run("csi_plugin.attachment.devices:detach", info, attached)
    assert [call.split()[2] for call in host.called("rbd unmap")] == ["/dev/rbd0", "/dev/rbd1"]


IMAGE_OF_OTHERS = {
    "namespace": {"pool_ns": "tenant"},
    "cluster": {"config_info": "198.51.100.1:6789,[2001:db8::1]:6789 name=cinder,key=client.cinder pool image -"},
}


@pytest.mark.parametrize("of", ["own", *IMAGE_OF_OTHERS])
def test_image_of_that_name_in_another_namespace_or_cluster_is_another_one(
    host: FakeHost, device: str, of: str
) -> None:
    """As the other side of a mirror is, which this host may have had before."""
    own = {"config_info": "192.0.2.9:6789,192.0.2.1:6789 name=cinder,key=client.cinder pool image -"}
    for name, text in {
        "pool": "pool",
        "name": "image",
        "current_snap": "-",
        "pool_ns": "",
        **IMAGE_OF_OTHERS.get(of, own),
    }.items():
        host.write(f"bus/rbd/devices/0/{name}", text)
    host.block_device("rbd0", "devices/virtual/block/rbd0", shows=device)
    node = Path(device).stat().st_rdev
    host.program("rbd", f'[ "$1" != map ] || {{ mknod "$DEV/rbd1" b {node >> 8} {node & 255}; echo /dev/rbd1; }}')
    info = {
        "driver_volume_type": "rbd",
        "data": {
            "name": "pool/image",
            "hosts": ["192.0.2.1"],
            "ports": ["6789"],
            "auth_username": "cinder",
            "cluster_name": "ceph",
        },
    }
    attached = host.run("csi_plugin.attachment.devices:attach", info)
    assert attached["path"] == ("/dev/rbd0" if of == "own" else "/dev/rbd1")
    host.run("csi_plugin.attachment.devices:detach", info, {"type": "block", "path": "/dev/rbd7"})
    assert bool(host.called("rbd unmap /dev/rbd0")) is (of == "own")


def test_map_of_the_host_over_a_single_path_is_used(host: FakeHost, device: str, portal: str) -> None:
    """multipathd without find_multipaths has made it, and keeps the disk busy."""
    host.session(1, NAME, portal, {0: "sda"})
    host.map("dm-0", MAP, ["sda"], shows=device)
    with_sessions(host, portal)
    attached = host.run("csi_plugin.attachment.devices:attach", connection(portal), multipath=False)
    assert attached["path"] == "/dev/dm-0"
    assert "find_multipaths" in host.said


def test_records_of_targets_are_manual(host: FakeHost, device: str, portal: str) -> None:
    """The host logs in to nothing by itself when it starts again."""
    with_sessions(host, login=appears(host, device, portal))
    host.program("multipath")
    attached = host.run("csi_plugin.attachment.devices:attach", connection(portal), multipath=True)
    assert not host.called("automatic")
    assert host.called(r"node.startup -v manual")
    host.run("csi_plugin.attachment.devices:detach", connection(portal), attached, multipath=True)
    assert host.called("multipath -w 36001405aaaa")
