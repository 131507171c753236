"""Detaching takes away what is the volume's own, and attaching takes nothing else, whatever a storage or udev has given
numbers and names to since. The kernel's tables and programs are a test's own."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import fibre_channel, nvme_volumes
from tests.support.fake_host import FakeHost, HostError

pytestmark = pytest.mark.root

OWN, NODE = "500a000000000001", "500a000000000000"
FIRST = "192.0.2.1:4420"
NAME = "iqn.2026-11.org.example:volume"
ATTACH, DETACH = "csi_plugin.attachment.devices:attach", "csi_plugin.attachment.devices:detach"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path / "host")
    for name in ("multipath", "multipathd", "lsblk", "udevadm", "nvme", "iscsiadm", "blockdev"):
        host.program(name)
    return host


def is_deleted(host: FakeHost, disk: str) -> bool:
    return (host.sys / f"block/{disk}/device/delete").read_text().strip() == "1"


def test_unit_of_fibre_channel_that_is_another_volumes_by_now(host: FakeHost, device: str) -> None:
    """The volume's own disk has gone, and its unit shows another volume's, under another name of the kernel's."""
    fibre_channel.adapter(host)
    fibre_channel.disk(host, "sdb", target=0, port=OWN, node=NODE, wwid="naa.6001405bbbb", shows=device)
    for path in ("/dev/sda", "/dev/dm-0"):
        device_info = {"type": "block", "path": path}
        identity = "device/wwid naa.6001405aaaa" if path == "/dev/sda" else "dm/uuid mpath-36001405aaaa"
        host.run(DETACH, fibre_channel.connection(OWN), device_info, identity=identity)
    assert not is_deleted(host, "sdb")
    assert "another volume's by now" in host.said


def test_link_of_udev_that_is_stale_leads_to_no_disk_of_the_volume(host: FakeHost, device: str) -> None:
    """The kernel has given the disk's name to a disk behind another unit, and udev has not kept up."""
    fibre_channel.adapter(host)
    fibre_channel.disk(host, "sda", target=0, port=OWN, node=NODE, unit=7, shows=device)
    by_path = host.dev / "disk/by-path"
    (by_path / f"pci-0000:00:05.0-fc-0x{OWN}-lun-1").symlink_to("../../sda")
    with pytest.raises(HostError) as error:
        host.run("tests.support.fibre_channel:attach", fibre_channel.connection(OWN), multipath=False)
    assert error.value.kind == "NoFibreChannelVolumeDeviceFound"
    host.run(DETACH, fibre_channel.connection(OWN), None)
    assert not is_deleted(host, "sda")


@pytest.mark.parametrize("protocol", ["iscsi", "fibre_channel", "nvmeof"])
@pytest.mark.parametrize("is_used", [True, False])
def test_what_an_attach_that_was_cut_off_may_have_left(
    host: FakeHost, device: str, portal: str, protocol: str, is_used: bool
) -> None:
    """Nothing of it is recorded. What is in use is another volume's, which has got the unit's number since."""
    disk = "nvme0n1" if protocol == "nvmeof" else "sda"
    match protocol:
        case "iscsi":
            info = iscsi_connection(portal)
            host.session(1, NAME, portal, {0: disk}, shows=device)
            host.program("iscsiadm", f'[ "$*" != "-m session" ] || echo "tcp: [1] {portal},1 {NAME} (non-flash)"')
        case "fibre_channel":
            info = fibre_channel.connection(OWN)
            fibre_channel.adapter(host)
            fibre_channel.disk(host, disk, target=0, port=OWN, node=NODE, shows=device)
        case _:
            info = nvme_volumes.connection(FIRST)
            nvme_volumes.disk(host, 0, FIRST, shows=device)
    if is_used:
        host.map("dm-1", "CRYPT-LUKS2-aaaa", [disk], dm_name="crypt-other")
    host.run(DETACH, info, None)
    if protocol == "nvmeof":
        assert bool(host.called("nvme disconnect")) is not is_used
    else:
        assert is_deleted(host, disk) is not is_used


@pytest.mark.parametrize("is_open", [True, False])
def test_what_the_host_has_built_on_what_an_attach_that_was_cut_off_has_left(
    host: FakeHost, device: str, is_open: bool
) -> None:
    """A raw volume with a logical volume inside, which udev activates as it sees it."""
    fibre_channel.adapter(host)
    fibre_channel.disk(host, "sda", target=0, port=OWN, node=NODE, shows=device)
    host.map("dm-1", "LVM-aaaa", ["sda"], dm_name="data-one")
    gone = "rm $SYS/devices/pci0000:00/0000:00:05.0/host2/rport-2:0-0/target2:0:0/2:0:0:1/block/sda/holders/dm-1"
    host.program("dmsetup", f'case "$1" in info) echo {int(is_open)} ;; remove) {gone} ;; esac')
    host.run(DETACH, fibre_channel.connection(OWN), None)
    assert is_deleted(host, "sda") is not is_open
    assert bool(host.called("dmsetup remove")) is not is_open


def iscsi_connection(portal: str) -> dict[str, Any]:
    return {
        "driver_volume_type": "iscsi",
        "data": {"target_portal": portal, "target_iqn": NAME, "target_lun": 0},
    }


@pytest.mark.parametrize("is_used", [True, False])
def test_attaching_over_nvme_that_fails_leaves_what_is_in_use(host: FakeHost, device: str, is_used: bool) -> None:
    """A volume that is staged again while a pod has it, and whose only controller is trying to come back."""
    nvme_volumes.disk(host, 0, FIRST, shows=device)
    host.write("devices/virtual/nvme-fabrics/ctl/nvme0/state", "resetting")
    if is_used:
        host.map("dm-1", "CRYPT-LUKS2-aaaa", ["nvme0n1"], dm_name="crypt-volume")
    with pytest.raises(HostError) as error:
        host.run(ATTACH, nvme_volumes.connection(FIRST))
    assert error.value.kind == "VolumeDeviceNotFound"
    assert bool(host.called("nvme disconnect")) is not is_used


def test_portals_of_nvme_that_do_not_answer_are_left_out(host: FakeHost, device: str, portal: str) -> None:
    """A connect to one of these would keep all others of the host waiting for minutes."""
    host.write("module/nvme_core/parameters/multipath", "Y")
    dead = "127.0.0.1:1"
    host.program("nvme", nvme_volumes.appears(host, portal, shows=device))
    attached = host.run(ATTACH, nvme_volumes.connection(dead, portal), multipath=True)
    assert attached["path"] == "/dev/nvme1n1"
    assert "127.0.0.1 port 1 do not answer" in host.said
    assert len(host.called("nvme connect")) == 1
    with pytest.raises(HostError, match=r"no portal of the storage answers this node \(127.0.0.1 port 1\)"):
        host.run(ATTACH, nvme_volumes.connection(dead), multipath=True)
    assert len(host.called("nvme connect")) == 1


@pytest.mark.parametrize(
    ("named", "told"), [("[::1]", "::1"), ("0:0:0:0:0:0:0:1", "::1"), ("::1", "0:0::1"), ("localhost", "127.0.0.1")]
)
def test_portals_of_nvme_are_found_however_they_are_written(host: FakeHost, device: str, named: str, told: str) -> None:
    """``told``: as the kernel has it. os-brick compares texts."""
    nvme_volumes.disk(host, 0, f"{told}:4420", shows=device)
    info = nvme_volumes.connection(f"{named}:4420")
    attached = host.run(ATTACH, info)
    assert attached["path"] == "/dev/nvme0n1"
    assert not host.called("nvme connect")
    host.run(DETACH, info, attached, identity="wwid eui.0a")
    assert host.called("nvme disconnect -d /dev/nvme0")


@pytest.mark.parametrize("others", [True, False])
def test_controllers_of_an_nvme_volume_whose_device_has_gone(host: FakeHost, device: str, others: bool) -> None:
    """As when the storage has taken it away: the kernel would try to have them back for ever."""
    nvme_volumes.disk(host, 0, FIRST, shows=device)
    if not others:
        shutil.rmtree(host.sys / "devices/virtual/nvme-fabrics/ctl/nvme0/nvme0n1")
    host.run(DETACH, nvme_volumes.connection(FIRST), {"type": "block", "path": "/dev/nvme9n1"}, identity="wwid eui.0b")
    assert bool(host.called("nvme disconnect")) is not others


@pytest.mark.parametrize("closes", [True, False])
def test_decrypted_device_whose_name_in_dev_is_missing(host: FakeHost, device: str, closes: bool) -> None:
    """As after an attach that was cut off, or where udev is slow: the kernel has it all the same."""
    host.disk("sda", "devices/a", shows=device)
    host.map("dm-1", "CRYPT-LUKS2-aaaa", ["sda"], dm_name="crypt-volume")
    (host.dev / "mapper").mkdir()
    host.program("cryptsetup")
    node = (host.dev / "dm-1").stat().st_rdev
    made = f'mknod "$DEV/mapper/crypt-volume" b {os.major(node)} {os.minor(node)}'
    host.program("dmsetup", f'[ "$1" != mknodes ] || {made}')
    if closes:
        host.run("csi_plugin.attachment.encryption:close_device", "volume")
        assert host.called("cryptsetup luksClose crypt-volume")
        return
    opened = host.run(
        "csi_plugin.attachment.encryption:open_device",
        "/dev/sda",
        volume_id="volume",
        encryption={"provider": "luks2"},
        passphrase="key",
        used_before=True,
    )
    assert opened == "/dev/mapper/crypt-volume"
    assert not host.called("cryptsetup")
