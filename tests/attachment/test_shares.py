"""Shares with volumes: mounted anew when they went stale, unmounted with their last volume. A folder is the server."""

import subprocess
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
    host.program("mount", f'for target; do :; done; exec /usr/bin/mount --bind {server} "$target"')
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
