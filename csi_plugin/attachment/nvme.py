"""NVMe over Fabrics: where a connection says its volume is, and which of that this host has."""

import copy
import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_plugin.attachment import brick_runtime, host_tables, multipath

_CONTROLLERS = Path("/sys/class/nvme")
_PROTOCOLS = ("nvme", "nvmeof")
_RDMA = ("rdma", "rocev2")
_ENDING = ("deleting", "deleting (no IO)", "dead")


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
    return [portal for target in targets(data) for portal in portals_of(target)]


def targets(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The subsystems of a connection, which a replicated volume has several of."""
    return list(data.get("volume_replicas") or [data])


def portals_of(target: dict[str, Any]) -> list[Portal]:
    if "portals" in target:
        name, named = target["target_nqn"], target["portals"]
    else:
        name, named = target["nqn"], [(target["target_portal"], target["target_port"], target["transport_type"])]
    return [
        Portal(subsystem=name, address=_comparable(address), port=str(port), transport=_kind(transport))
        for address, port, transport in named
    ]


def as_the_kernel_writes(data: dict[str, Any]) -> dict[str, Any]:
    """A copy of a connection with addresses and transports as the kernel has them: os-brick compares texts, and the
    kernel keeps an address as it was told it."""
    copied = copy.deepcopy(data)
    known = _controllers()
    for target in targets(copied):
        written = [(known.get(portal, portal.address), portal.port, portal.transport) for portal in portals_of(target)]
        if "portals" in target:
            target["portals"] = written
        else:
            ((target["target_portal"], target["target_port"], target["transport_type"]),) = written
    return copied


def _kind(transport: str) -> str:
    return "rdma" if transport.lower() in _RDMA else "tcp"


def connected_portals() -> set[Portal]:
    """Those that this host has a controller for: the kernel connects it again by itself, unless it gives it up."""
    return set(_controllers())


def _controllers() -> dict[Portal, str]:
    """The address by portal, as it was told the kernel."""
    return dict(found for folder in _CONTROLLERS.glob("nvme*") if (found := _read_controller(folder)) is not None)


def _read_controller(folder: Path) -> tuple[Portal, str] | None:
    try:
        if (folder / "state").read_text().strip() in _ENDING:
            return None
        transport = (folder / "transport").read_text().strip()
        fields = (folder / "address").read_text().strip().split(",")
        address = dict(field.partition("=")[::2] for field in fields)
        subsystem = (folder / "subsysnqn").read_text().strip()
        told = address["traddr"]
        portal = Portal(subsystem=subsystem, address=_comparable(told), port=address["trsvcid"], transport=transport)
    except (OSError, KeyError):
        return None  # of another kind, such as PCI's, or gone in the meantime
    return portal, told


def disks_of_others(identity: str, names: dict[str, str]) -> list[str]:
    """Which disks are not, or not paths of, a device of that identity; ``names``: world-wide name by disk.

    None where the identity is not one that NVMe disks tell.
    """
    kind, _, name = identity.partition(" ")
    if kind == "dm/uuid" and name.startswith("mpath-"):
        name = name.removeprefix("mpath-")
    elif kind != "wwid":
        return []
    return sorted(disk for disk, found in names.items() if found and found != name)


def device_name(name: str) -> str:
    """The device, such as nvme0n1, that a controller's part of it, such as nvme0c1n1, belongs to."""
    return re.sub(r"c\d+n", "n", name)


def is_remote_controller(folder: Path) -> bool:
    """Whether a folder of the kernel's is a controller's over a network."""
    try:
        return folder.name.startswith("nvme") and (folder / "transport").read_text().strip() in ("tcp", "rdma", "fc")
    except OSError:
        return False


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
    return sorted(brick_runtime.connected_nvme_devices(as_the_kernel_writes(connection_info["data"])))


def _comparable(host: str) -> str:
    """An address as the kernel writes it: of a name, too, which nvme looks up; of a name's several, always the same."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host.lower()
    addresses = [ipaddress.ip_address(str(entry[4][0])) for entry in found]
    return str(min(addresses, key=lambda address: (address.version, int(address))))
