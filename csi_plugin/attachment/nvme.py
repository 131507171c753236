"""NVMe over Fabrics: where a connection says its volume is, and which of that this host has."""

import copy
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_plugin.attachment import connectors, host_tables, multipath

_CONTROLLERS = Path("/sys/class/nvme")
_PROTOCOLS = ("nvme", "nvmeof")
_RDMA = ("rdma", "RoCEv2")


@dataclass(frozen=True, kw_only=True)
class Portal:
    """Where a subsystem can be reached: a path, and a controller of this host."""

    subsystem: str
    """Its NQN."""
    address: str
    port: str
    transport: str
    """rdma or tcp."""

    def __str__(self) -> str:
        return f"{self.address} port {self.port}"


def is_nvme(connection_info: dict[str, Any]) -> bool:
    return str(connection_info.get("driver_volume_type", "")).lower() in _PROTOCOLS


def portals(data: dict[str, Any]) -> list[Portal]:
    """All that a connection names, in the form of either version, and of replicated volumes."""
    found = []
    for target in data.get("volume_replicas") or [data]:
        if "portals" in target:
            name, named = target["target_nqn"], target["portals"]
        else:
            name, named = target["nqn"], [(target["target_portal"], target["target_port"], target["transport_type"])]
        for address, port, transport in named:
            kind = "rdma" if transport in _RDMA else "tcp"
            found.append(Portal(subsystem=name, address=_comparable(address), port=str(port), transport=kind))
    return found


def connected_portals() -> set[Portal]:
    """Those that this host has a controller for, in whatever state: the kernel connects it again by itself."""
    return {portal for folder in _CONTROLLERS.glob("nvme*") if (portal := _portal_of(folder)) is not None}


def _portal_of(controller: Path) -> Portal | None:
    try:
        transport = (controller / "transport").read_text().strip()
        fields = (controller / "address").read_text().strip().split(",")
        address = dict(field.partition("=")[::2] for field in fields)
        return Portal(
            subsystem=(controller / "subsysnqn").read_text().strip(),
            address=_comparable(address["traddr"]),
            port=address["trsvcid"],
            transport=transport,
        )
    except (OSError, KeyError):
        return None  # of another kind, such as PCI's, or gone in the meantime


def find_connected(connection_info: dict[str, Any]) -> dict[str, Any] | None:
    """os-brick's device information, None for other protocols too: os-brick disconnects only what it is told."""
    if not is_nvme(connection_info):
        return None
    paths = connected_devices(connection_info)
    if not paths:
        return None
    found = multipath.map_over([host_tables.device_folder(path).name for path in paths if Path(path).exists()])
    return {"type": "block", "path": f"/dev/{found}" if found else paths[0]}


def connected_devices(connection_info: dict[str, Any]) -> list[str]:
    """Paths of the devices that this host has of an NVMe volume: several, without the kernel's own multipath."""
    # os-brick rewrites what it is given.
    return sorted(connectors.connected_nvme_devices(copy.deepcopy(connection_info)))


def _comparable(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        return address.lower()
