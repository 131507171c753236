"""Multipath maps over Fibre Channel and NVMe: paths of the volume's own alone, found, added, and taken away. The
kernel's tables and programs are a test's own."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import fibre_channel, nvme_volumes
from tests.support.fake_host import FakeHost, HostError

pytestmark = pytest.mark.root

MAP = "mpath-36001405aaaa"
OWN, SIBLING, OTHERS = "500a000000000001", "500a000000000002", "500b000000000001"
NODE, OTHER_NODE = "500a000000000000", "500b000000000000"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path / "host")
    for name in ("multipath", "multipathd", "lsblk", "udevadm", "nvme"):
        host.program(name)
    return host


@pytest.mark.parametrize("is_others", [False, True])
def test_paths_of_fibre_channel(host: FakeHost, device: str, path_device: str, is_others: bool) -> None:
    """A port of the volume's storage that its connection does not name is its own; another storage's is not."""
    fibre_channel.adapter(host)
    fibre_channel.disk(host, "sda", target=0, port=OWN, node=NODE, shows=path_device)
    port, node = (OTHERS, OTHER_NODE) if is_others else (SIBLING, NODE)
    fibre_channel.disk(host, "sdb", target=1, port=port, node=node)
    host.map("dm-0", MAP, ["sda", "sdb"], shows=device)
    by_id = host.dev / "disk/by-id"
    by_id.mkdir()
    (by_id / f"dm-uuid-{MAP}").symlink_to("../../dm-0")
    deleted = [host.sys / f"block/{name}/device/delete" for name in ("sda", "sdb")]
    attach = "tests.support.fibre_channel:attach"
    if not is_others:
        attached = host.run(attach, fibre_channel.connection(OWN), multipath=True)
        assert Path(attached["path"]).name == f"dm-uuid-{MAP}"
        assert [file.read_text().strip() for file in deleted] == ["", ""]
        return
    with pytest.raises(HostError, match=rf"sdb \({OTHERS}\) are not of this volume's targets") as error:
        host.run(attach, fibre_channel.connection(OWN), multipath=True)
    assert error.value.kind == "OtherVolume"
    # What is the other's stays; this volume's own goes at once.
    assert [file.read_text().strip() for file in deleted] == ["1", ""]
    assert not host.called("multipath -f|multipathd del")


def test_map_of_the_host_over_a_single_path_of_fibre_channel(host: FakeHost, device: str, path_device: str) -> None:
    fibre_channel.adapter(host)
    fibre_channel.disk(host, "sda", target=0, port=OWN, node=NODE, shows=path_device)
    host.map("dm-0", MAP, ["sda"], shows=device)
    attached = host.run("tests.support.fibre_channel:attach", fibre_channel.connection(OWN), multipath=False)
    assert attached["path"] == "/dev/dm-0"


@pytest.mark.parametrize(
    ("is_published", "paths_are", "map_says", "ends"),
    [
        (False, "offline", "F", True),
        (True, "offline", "F", False),
        (False, "running", "A", False),
        # The storage answers, and has the volume for this node no more.
        (False, "running", "F", True),
        (True, "running", "F", False),
    ],
)
def test_queueing_of_a_map_without_paths(
    host: FakeHost, device: str, is_published: bool, paths_are: str, map_says: str, ends: bool
) -> None:
    """It would keep the unmount of a volume that was taken away waiting for ever. Of any other volume it keeps data."""
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    host.disk("sda", "devices/a")
    host.write("devices/a/state", paths_are)
    host.map("dm-0", MAP, ["sda"], shows=device, dm_name="mpatha")
    says = f"mpatha: 0 2048 multipath 2 0 1 0 2 1 A 0 1 2 8:0 {map_says} 1 0 1 E 0 1 2 8:16 F 3 0 1"
    host.program(
        "dmsetup", f'[ "$1" != status ] || printf "%s\\n" "{says}" "other: 0 8 multipath 2 0 0 0 1 1 A 0 1 0 8:0 A 0"'
    )
    host.program("umount", 'exec /usr/bin/umount "$@"')
    host.run("tests.support.node_services:unstage_mounted", str(host.folder), "/dev/dm-0", is_published=is_published)
    before = host.calls[: host.calls.index(*host.called("umount"))]
    assert [call for call in before if "queue" in call or "fail_if_no_path" in call] == (
        ["multipathd disablequeueing map mpatha", "dmsetup message mpatha 0 fail_if_no_path"] if ends else []
    )
    assert not any("fail_if_no_path" in call for call in host.calls[len(before) :])


@pytest.mark.parametrize("is_open", [False, True])
def test_what_is_built_on_a_volume_when_it_is_unstaged(host: FakeHost, device: str, is_open: bool) -> None:
    """A logical volume inside of it, which the host has activated: deactivated, or named, with nothing changed."""
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    host.disk("sda", "devices/a")
    host.map("dm-0", MAP, ["sda"], shows=device)
    host.map("dm-1", "LVM-aaaa", ["dm-0"], dm_name="data-one")
    host.program("dmsetup", f'case "$1" in info) echo {int(is_open)} ;; esac')
    host.program("umount", 'exec /usr/bin/umount "$@"')
    unstage = ("tests.support.node_services:unstage_mounted", str(host.folder), "/dev/dm-0")
    if is_open:
        with pytest.raises(HostError, match=r"has data-one \(open\) on its device /dev/dm-0") as error:
            host.run(*unstage, is_published=True)
        assert error.value.kind == "RpcError"
        assert not host.called("umount|dmsetup remove")
    else:
        host.run(*unstage, is_published=True)
        assert [call.split()[0] for call in host.called("umount|dmsetup remove")] == ["umount", "dmsetup"]


NVME_MAP = "mpath-eui.0a"


FIRST = "192.0.2.1:4420"


def heal_nvme(host: FakeHost, connection_info: dict[str, Any]) -> Any:
    return host.run(
        "csi_plugin.attachment.healing:heal",
        connection_info,
        "/dev/dm-0",
        identity="",
        multipath=True,
        read_only=False,
        root_helper="sudo",
    )


def test_map_over_nvme_is_healed(host: FakeHost, device: str, portal: str) -> None:
    nvme_volumes.disk(host, 0, FIRST)
    host.map("dm-0", NVME_MAP, ["nvme0n1"], shows=device)
    host.program("nvme", nvme_volumes.appears(host, portal))
    assert heal_nvme(host, nvme_volumes.connection(FIRST, portal)) is None
    assert host.called(f"nvme connect .*-s {portal.rpartition(':')[2]} ")
    assert host.called("multipathd add path /dev/nvme1n1")
    assert not host.called("disconnect|multipath -f|multipathd del")


def test_disk_over_nvme_that_is_there_and_not_in_the_map_is_added(host: FakeHost, device: str) -> None:
    second = "192.0.2.2:4420"
    nvme_volumes.disk(host, 0, FIRST)
    nvme_volumes.disk(host, 1, second)
    host.map("dm-0", NVME_MAP, ["nvme0n1"], shows=device)
    assert heal_nvme(host, nvme_volumes.connection(FIRST, second)) is None
    assert host.called("multipathd add path /dev/nvme1n1")
    assert not host.called("nvme connect")


def test_disk_of_fibre_channel_that_is_there_and_not_in_the_map_is_added(
    host: FakeHost, device: str, path_device: str
) -> None:
    fibre_channel.adapter(host)
    fibre_channel.disk(host, "sda", target=0, port=OWN, node=NODE)
    fibre_channel.disk(host, "sdb", target=1, port=SIBLING, node=NODE, shows=path_device)
    host.map("dm-0", MAP, ["sda"], shows=device)
    host.run(
        "csi_plugin.attachment.healing:heal",
        fibre_channel.connection(OWN, SIBLING),
        "/dev/dm-0",
        identity="",
        multipath=True,
        read_only=False,
        root_helper="sudo",
    )
    assert host.called("multipathd add path /dev/sdb")


def test_path_of_another_volume_does_not_join_a_map_over_nvme(host: FakeHost, device: str, portal: str) -> None:
    nvme_volumes.disk(host, 0, FIRST)
    host.map("dm-0", NVME_MAP, ["nvme0n1"], shows=device)
    host.program("nvme", nvme_volumes.appears(host, portal, wwid="eui.0b"))
    with pytest.raises(HostError, match="lead to another volume"):
        heal_nvme(host, nvme_volumes.connection(FIRST, portal))
    assert not host.called("multipathd add|disconnect")


def test_volume_over_nvme_is_attached_as_its_map_and_detached(
    host: FakeHost, device: str, path_device: str, portal: str
) -> None:
    """The second portal is connected, too, and the map goes before the paths."""
    nvme_volumes.disk(host, 0, FIRST, shows=path_device)
    host.map("dm-0", NVME_MAP, ["nvme0n1"], shows=device)
    host.program("nvme", nvme_volumes.appears(host, portal))
    info = nvme_volumes.connection(FIRST, portal)
    attached = host.run("csi_plugin.attachment.devices:attach", info, multipath=True)
    assert (attached["path"], attached["multipath_id"]) == ("/dev/dm-0", "eui.0a")
    assert len(host.called("nvme connect")) == 1
    host.run("csi_plugin.attachment.devices:detach", info, attached, multipath=True, identity=f"dm/uuid {NVME_MAP}")
    taken = host.called("multipath -f|nvme disconnect")
    assert [call.split()[:2] for call in taken] == [["multipath", "-f"], *[["nvme", "disconnect"]] * 2]
    # Again, after an attempt that was cut off once the map had gone.
    (host.dev / "dm-0").unlink()
    for name, calls in (("eui.0b", 2), ("eui.0a", 4)):
        host.run("csi_plugin.attachment.devices:detach", info, attached, identity=f"dm/uuid mpath-{name}")
        assert len(host.called("nvme disconnect")) == calls


def test_map_over_nvme_grows(host: FakeHost, device: str, path_device: str) -> None:
    nvme_volumes.disk(host, 0, FIRST, shows=path_device)
    host.map("dm-0", NVME_MAP, ["nvme0n1"], shows=device, dm_name="mpatha")
    host.run(
        "csi_plugin.attachment.devices:extend", nvme_volumes.connection(FIRST), {"type": "block", "path": "/dev/dm-0"}
    )
    assert host.called("multipathd resize map mpatha")
    rescan = host.sys / "devices/virtual/nvme-fabrics/ctl/nvme0/rescan_controller"
    assert rescan.read_text().strip() == "1"


def test_map_over_nvme_with_paths_of_another_volume_is_not_used(host: FakeHost, device: str, path_device: str) -> None:
    nvme_volumes.disk(host, 0, FIRST, shows=path_device)
    host.disk("sdz", "devices/z")
    host.map("dm-0", NVME_MAP, ["nvme0n1", "sdz"], shows=device)
    with pytest.raises(HostError, match="its paths sdz are not of this volume's targets") as error:
        host.run("csi_plugin.attachment.devices:attach", nvme_volumes.connection(FIRST), multipath=True)
    assert error.value.kind == "OtherVolume"
    assert not host.called("multipath -f|multipathd del")
