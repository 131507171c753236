"""NVMe over TCP on a fake host (tests.support.fake_host) whose kernel does no multipath of its own."""

import os
from typing import Any

from tests.support.fake_host import FakeHost

SUBSYSTEM = "nqn.2026-11.org.example:volume"


def connection(*portals: str) -> dict[str, Any]:
    named = [[*portal.rpartition(":")[::2], "tcp"] for portal in portals]
    data = {"target_nqn": SUBSYSTEM, "vol_uuid": None, "portals": named, "ns_id": "1"}
    return {"driver_volume_type": "nvmeof", "data": data}


def disk(host: FakeHost, number: int, portal: str, *, wwid: str = "eui.0a", shows: str = "") -> None:
    """A controller, and its disk, on a host whose kernel does no multipath of its own."""
    at = host.nvme_controller(number, portal, subsystem=SUBSYSTEM)
    host.link(f"class/nvme-fabrics/ctl/nvme{number}", at)
    disk = f"nvme{number}n1"
    host.write(f"{at}/{disk}/nsid", "1")
    host.write(f"{at}/{disk}/wwid", wwid)
    host.block_device(disk, f"{at}/{disk}", shows=shows)
    host.link(f"{at}/{disk}/device", at)


def appears(host: FakeHost, portal: str, *, wwid: str = "eui.0a", shows: str = "") -> str:
    """The shell's words that make a second controller appear."""
    other = FakeHost(host.folder / "later")
    disk(other, 1, portal, wwid=wwid, shows=shows)
    number = (other.dev / "nvme1n1").stat().st_rdev
    return (
        f'[ "$1" != connect ] || {{ cp -a {other.folder}/sys/. "$SYS"; '
        f'mknod "$DEV/nvme1n1" b {os.major(number)} {os.minor(number)}; }}'
    )
