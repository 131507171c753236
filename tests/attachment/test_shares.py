"""Shares with volumes: mounted anew when they went stale, unmounted with their last volume. A folder is the server."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.attachment import host_tables
from tests.support.csi import MIB
from tests.support.devices import clean_up
from tests.support.fake_host import FakeHost, HostError

pytestmark = pytest.mark.root

STALE = "stat: cannot statx: Stale file handle"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    """mount shows a filesystem of this machine in place of the share."""
    disk, server = tmp_path / "disk", tmp_path / "server"
    server.mkdir()
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(server)], check=True)
    for name in ("one", "two"):
        with (server / name).open("wb") as file:
            file.truncate(8 * MIB)
    host = FakeHost(tmp_path / "host", kernel=False)
    mount = f'/usr/bin/mount --bind {server} "$target" && exec /usr/bin/mount -o remount,bind,noexec "$target"'
    host.program("mount", f"for target; do :; done; {mount}")
    yield host
    for target in (mounted_at(host), str(server)):
        clean_up(tmp_path)
        if target:
            subprocess.run(["umount", "--lazy", target], check=False)
    clean_up(tmp_path)


def mounted_at(host: FakeHost) -> str:
    found = [mount.target for mount in host_tables.mounts() if mount.target.startswith(str(host.folder / "shares"))]
    return found[-1] if found else ""


def volume(host: FakeHost, name: str) -> dict[str, Any]:
    return {
        "driver_volume_type": "nfs",
        "mount_point_base": str(host.folder / "shares"),
        "data": {"export": "server:/volumes", "name": name, "format": "raw"},
    }


def attach(host: FakeHost, name: str) -> Any:
    return host.run("csi_plugin.attachment.devices:attach", volume(host, name))


def detach(host: FakeHost, name: str, attached: Any) -> None:
    host.run("csi_plugin.attachment.devices:detach", volume(host, name), attached)


def test_the_last_volume_unmounts_the_share(host: FakeHost) -> None:
    one, two = attach(host, "one"), attach(host, "two")
    assert len(host.called("^mount ")) == 1
    detach(host, "one", one)
    assert mounted_at(host)
    detach(host, "two", two)
    assert not mounted_at(host)


def test_a_mount_that_takes_long_holds_up_no_other_volumes(host: FakeHost) -> None:
    """As of a server that is away: os-brick's lock of the whole host stays free meanwhile."""
    (host.folder / "locks").mkdir()
    lock = host.folder / "locks/os-brick-connect_volume"
    script = f"import fcntl; fcntl.lockf(open('{lock}', 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    mount = (host.folder / "bin/mount").read_text().partition("\n")[2]
    host.program("mount", f'{sys.executable} -c "{script}" || exit 9\n{mount}')
    detach(host, "one", attach(host, "one"))
    assert not mounted_at(host)


def test_a_file_that_was_deleted_is_detached(host: FakeHost, tmp_path: Path) -> None:
    """As by a client of the share, or by a person: the loop device would keep its room, and the share mounted."""
    one = attach(host, "one")
    identity = host.run("csi_plugin.attachment.host_tables:device_identity", one["path"])
    (tmp_path / "server/one").unlink()
    assert host.run("csi_plugin.attachment.host_tables:device_identity", one["path"]) == identity
    host.run("csi_plugin.attachment.devices:detach", volume(host, "one"), one, identity=identity)
    assert "one" not in host_tables.loop_devices_by_file_name()
    assert not mounted_at(host)


def test_a_share_that_went_stale_is_mounted_anew(host: FakeHost) -> None:
    one = attach(host, "one")
    host.program("stat", f'echo "{STALE}" >&2; exit 1')
    with pytest.raises(HostError, match=r"has gone stale, and one of it are in use"):
        attach(host, "two")
    assert len(host.called("^mount ")) == 1
    subprocess.run(["losetup", "--detach", one["path"]], check=True)
    two = attach(host, "two")
    assert len(host.called("^mount ")) == 2
    detach(host, "two", two)


@pytest.mark.parametrize("what", ["device link", "file link", "folder link", "device", "pipe"])
def test_what_is_no_file_on_the_share_is_attached_to_no_pod(host: FakeHost, tmp_path: Path, what: str) -> None:
    """As any client of the share may leave it in a volume's place."""
    server, secret = tmp_path / "server", tmp_path / "secrets" / "one"
    secret.parent.mkdir()
    secret.write_bytes(bytes(MIB))
    name = "folder/one" if what == "folder link" else "one"
    (server / "one").unlink()
    match what:
        case "device link":
            (server / "one").symlink_to("/dev/loop0")
        case "file link":
            (server / "one").symlink_to(secret)
        case "folder link":
            (server / "folder").symlink_to(secret.parent)
        case "device":
            os.mknod(server / "one", stat.S_IFBLK | 0o600, os.makedev(7, 0))
        case "pipe":
            os.mkfifo(server / "one")
    with pytest.raises(HostError, match=r"a volume is a regular file|links are not followed"):
        attach(host, name)
    (mount,) = [found for found in host_tables.mounts() if found.target == mounted_at(host)]
    assert mount.options >= {"nodev", "nosuid", "noexec"}
    detach(host, name, None)
    assert "one" not in host_tables.loop_devices_by_file_name()


def test_a_link_in_the_place_of_an_attached_file_detaches_no_other(host: FakeHost, tmp_path: Path) -> None:
    one, two = attach(host, "one"), attach(host, "two")
    (tmp_path / "server/one").rename(tmp_path / "server/kept")
    (tmp_path / "server/one").symlink_to("two")
    detach(host, "one", one)
    assert Path(two["path"]).stat() and "two" in host_tables.loop_devices_by_file_name()
    (tmp_path / "server/kept").replace(tmp_path / "server/one")
    detach(host, "one", one)
    detach(host, "two", two)
    assert not mounted_at(host)
