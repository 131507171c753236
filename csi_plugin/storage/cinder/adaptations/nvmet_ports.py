"""What Cinder's nvmet target takes for granted: that the kernel's port of its number has the address that it wants.

A port keeps the address that it was made with, so that volumes would be exported where no node looks for them.
"""

import ipaddress
from pathlib import Path
from typing import Any

from cinder import exception

from csi_plugin.storage.cinder.adaptations import nvmet_exports
from csi_plugin.storage.cinder.driver_classes import attribute

PORTS = Path("/sys/kernel/config/nvmet/ports")


def check(driver: Any) -> None:
    """Raise InvalidConfigurationValue for an address that the target cannot have. Does nothing for other targets."""
    if not nvmet_exports.are_lost_at_reboot(driver):
        return
    target = attribute(driver, "target_driver")
    for number, address in enumerate(target.target_ips, start=int(target.nvmet_port_id)):
        _check_version(address)
        port = PORTS / str(number)
        if not port.exists():
            continue
        found = ((port / "addr_traddr").read_text().strip(), (port / "addr_trsvcid").read_text().strip())
        if found != (address, str(target.target_port)):
            raise exception.InvalidConfigurationValue(
                f"option nvmet_port_id: port {number} of this host's nvmet is at {':'.join(found)}, and "
                f"target_ip_address and target_port say {address}:{target.target_port}: choose another "
                f"number, or remove the port while no node is connected (links in {port}/subsystems, then rmdir {port})"
            )


def _check_version(address: str) -> None:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return  # a name, which the kernel refuses by itself
    if version != 4:
        raise exception.InvalidConfigurationValue(
            f"option target_ip_address: Cinder's nvmet target has IPv4 only, not {address}"
        )
