"""Fibre Channel on a fake host (tests.support.fake_host): its adapter, the storage's ports, and disks behind them."""

from pathlib import Path
from typing import Any

from csi_plugin.attachment import devices
from tests.support.fake_host import WWID, FakeHost

_ADAPTER = "devices/pci0000:00/0000:00:05.0/host2"


def adapter(host: FakeHost) -> None:
    for name, text in {"port_name": "0x2100", "node_name": "0x2000", "port_state": "Online"}.items():
        host.write(f"{_ADAPTER}/fc_host/host2/{name}", text)
    host.link("class/fc_host/host2", f"{_ADAPTER}/fc_host/host2")
    host.write("class/scsi_host/host2/scan")


def disk(
    host: FakeHost, name: str, *, target: int, port: str, node: str, unit: int = 1, wwid: str = WWID, shows: str = ""
) -> None:
    """A disk behind a port of a storage."""
    for kind, text in (("port", port), ("node", node)):
        host.write(f"class/fc_transport/target2:0:{target}/{kind}_name", f"0x{text}")
    host.disk(name, f"{_ADAPTER}/rport-2:0-{target}/target2:0:{target}/2:0:{target}:{unit}", wwid=wwid, shows=shows)
    by_path = host.dev / "disk/by-path"
    by_path.mkdir(parents=True, exist_ok=True)
    (by_path / f"pci-0000:00:05.0-fc-0x{port}-lun-{unit}").symlink_to(f"../../{name}")


def connection(*ports: str) -> dict[str, Any]:
    return {
        "driver_volume_type": "fibre_channel",
        "data": {"target_wwn": [port.upper() for port in ports], "target_lun": 1},
    }


def attach(connection_info: dict[str, Any], *, multipath: bool) -> Any:
    """Runs on the fake host. The name that udev's program tells, which has one path only, is the kernel's here."""
    from os_brick.initiator.linuxscsi import LinuxSCSI

    def get_scsi_wwn(self: Any, path: str) -> Any:
        return self.get_sysfs_wwid([Path(path).resolve().name])

    LinuxSCSI.get_scsi_wwn = get_scsi_wwn
    return devices.attach(connection_info, multipath=multipath, scan_attempts=1)
