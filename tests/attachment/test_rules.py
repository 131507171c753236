"""Rules of attaching that need neither devices nor root: what connections name, and what the kernel's tables say."""

from pathlib import Path
from typing import Any

import pytest

from csi_plugin.attachment import files, iscsi, rbd, scsi, signatures
from csi_plugin.attachment.errors import AttachmentError
from csi_plugin.attachment.host_tables import parse_mount


@pytest.mark.parametrize(
    ("portal", "address"),
    [
        ("192.0.2.1:3260", ("192.0.2.1", 3260)),
        ("192.0.2.1:3260,1", ("192.0.2.1", 3260)),
        ("[2001:db8::1]:3260,2", ("2001:db8::1", 3260)),
        ("array.example.org:860", ("array.example.org", 860)),
    ],
)
def test_address_of_a_portal(portal: str, address: tuple[str, int]) -> None:
    assert iscsi.portal_address(portal) == address


def test_portal_without_a_port_is_not_reachable() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        iscsi.portal_address("[2001:db8::1]")
    assert iscsi.reachable_portals(["nonsense"]) == set()
    assert iscsi.reachable_portals([]) == set()


def test_paths_of_a_map_that_lead_elsewhere() -> None:
    names = {"sda": "naa.6001405aaaa", "sdb": "naa.6001405bbbb", "sdc": "naa.6001405aaaa"}
    assert scsi.paths_of_others("36001405aaaa", names) == ["sdb"]
    assert scsi.paths_of_others("36001405aaaa", {"sda": names["sda"]}) == []
    assert scsi.paths_of_others("200aabb", {"sda": "eui.00aabb", "sdb": ""}) == ["sdb"]


def test_names_that_a_vendor_chose_tell_nothing_of_a_map() -> None:
    assert scsi.paths_of_others("SVendor_Model_1", {"sda": "t10.Vendor 1", "sdb": ""}) == []


@pytest.mark.parametrize(
    ("text", "kind", "uuid"),
    [
        ("DEVNAME=/dev/sda\nUUID=12-34\nTYPE=ext4\n", "ext4", "12-34"),
        ("TYPE=crypto_LUKS\n", "crypto_LUKS", ""),
        ("PTTYPE=gpt\nPTUUID=12-34\n", "partition table", ""),
        ("LABEL=a=b\nTYPE=xfs\nPTTYPE=dos\n", "xfs", ""),
        ("TYPE=ext4\nLABEL=a\u2028TYPE=xfs\x0cTYPE=btrfs\n", "ext4", ""),
        ("", "", ""),
    ],
)
def test_signatures(text: str, kind: str, uuid: str) -> None:
    found = signatures.parse_blkid(text)
    assert (found.kind, found.uuid, found.is_empty) == (kind, uuid, not kind)


def test_line_of_mountinfo() -> None:
    mount = parse_mount(
        r"36 35 8:17 /sub\040folder /mnt/with\040space\134 ro,noatime shared:1 master:2 "
        r"- ext4 /dev/sd\011b rw,errors=continue"
    )
    assert mount.device_number == (8, 17)
    assert mount.root == "/sub folder"
    assert mount.target == "/mnt/with space\\"
    assert (mount.filesystem, mount.source) == ("ext4", "/dev/sd\tb")
    assert mount.is_read_only
    assert not mount.is_filesystem_read_only


def test_line_of_mountinfo_of_a_filesystem_that_went_read_only() -> None:
    mount = parse_mount("36 35 0:45 / /mnt rw,relatime - btrfs /dev/sdb ro,space_cache")
    assert not mount.is_read_only
    assert mount.is_filesystem_read_only


@pytest.mark.parametrize(
    ("connection_info", "file"),
    [
        ({"driver_volume_type": "local", "data": {"device_path": "/volumes/one"}}, "/volumes/one"),
        ({"driver_volume_type": "LOCAL", "data": {"device_path": "/volumes/one"}}, "/volumes/one"),
        ({"driver_volume_type": "local", "data": {"device_path": "/dev/group/one"}}, None),
        ({"driver_volume_type": "nfs", "data": {"export": "server:/one"}}, None),
    ],
)
def test_volumes_that_are_files_of_this_host(connection_info: dict[str, Any], file: str | None) -> None:
    assert files.local_file(connection_info) == file


def test_files_that_are_more_than_bytes_are_refused() -> None:
    files.check_format({"data": {}})
    files.check_format({"data": {"format": "raw"}})
    with pytest.raises(AttachmentError, match="qcow2"):
        files.check_format({"data": {"format": "qcow2"}})


def test_image_is_unmapped_without_the_conf_that_is_gone(tmp_path: Path) -> None:
    device_info = {"path": "/dev/rbd0", "conf": str(tmp_path / "conf")}
    assert rbd.without_lost_conf(device_info) == {"path": "/dev/rbd0"}
    (tmp_path / "conf").write_text("")
    assert rbd.without_lost_conf(device_info) == device_info
