"""Fibre Channel: the storage's port that each disk of this host is reached through. Nothing here changes anything."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_plugin.attachment import host_tables

_TRANSPORT = Path("/sys/class/fc_transport")
_TARGET_FOLDER = re.compile(r"target\d+:\d+:\d+")
_LINK = re.compile(r"-fc-0x(?P<port>[0-9a-f]+)-lun-(?P<unit>\w+)")
"""udev's name of a disk, below /dev/disk/by-path."""
_PROTOCOLS = ("fibre_channel",)
_FLAT_FROM, _FLAT_SPACE = 256, 16384
"""The first unit that has no number of one byte, and what flat addressing adds to numbers."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port of a storage, by its world-wide names: sixteen hexadecimal digits, in lower case."""

    name: str
    node: str
    """The storage's, or one of its controllers': ports of one storage that a connection does not name have it too."""


def is_fibre_channel(connection_info: dict[str, Any]) -> bool:
    return str(connection_info.get("driver_volume_type", "")).lower() in _PROTOCOLS


def named_ports(data: dict[str, Any]) -> set[str]:
    """World-wide names of the ports that a connection names, as its targets or in its map of initiators."""
    named = data.get("target_wwns") or data.get("target_wwn") or []
    names = [named] if isinstance(named, str) else list(named)
    for ports in (data.get("initiator_target_map") or {}).values():
        names += ports
    return {_comparable(str(name)) for name in names}


def disks(data: dict[str, Any]) -> list[str]:
    """The kernel's names of the disks that a connection leads to by now: of its units, behind the ports that it has."""
    units = _named_units(data)
    found = []
    for folder in host_tables.named_folders("sd*"):
        port = port_of(folder)
        if port is not None and host_tables.scsi_unit(folder) in units.get(port.name, ()):
            found.append(folder.name)
    return found


def _named_units(data: dict[str, Any]) -> dict[str, set[int]]:
    """The volume's units by port. Ports have one each, or all the same one; those of the map alone may have any."""
    named = data.get("target_wwns") or data.get("target_wwn") or []
    names = [_comparable(str(name)) for name in ([named] if isinstance(named, str) else named)]
    listed = data.get("target_luns") or data.get("target_lun", 0)
    mode = data.get("addressing_mode")
    units = [_in_mode(int(unit), mode) for unit in (listed if isinstance(listed, list) else [listed])]
    found = {name: set(units) for name in named_ports(data)}
    if len(units) == len(names):
        found |= {name: {unit for other, unit in zip(names, units, strict=True) if other == name} for name in names}
    return found


def _in_mode(unit: int, mode: str | None) -> int:
    """A unit's number as the kernel has it, where the storage numbers them in another way."""
    is_flat = mode == "SAM3-flat" or (mode == "SAM2" and unit >= _FLAT_FROM)
    return unit + _FLAT_SPACE if is_flat else unit


def is_named_rightly(link: str) -> bool:
    """Whether udev's link to a disk (/dev/disk/by-path) leads to the port and the unit of its name. False for one that
    leads nowhere; True for what is no such link."""
    name = _LINK.search(link)
    if name is None:
        return True
    try:
        folder = host_tables.device_folder(link)
    except OSError:
        return False
    port, unit = port_of(folder), host_tables.scsi_unit(folder)
    return port is not None and unit is not None and (port.name, _unit_text(unit)) == (name["port"], name["unit"])


def _unit_text(unit: int) -> str:
    """A unit's number as udev writes it."""
    if unit < _FLAT_FROM:
        return str(unit)
    return f"0x{unit & 0xFFFF:04x}{unit >> 16 & 0xFFFF:04x}00000000"


def port_of(folder: Path) -> Port | None:
    """The port that a disk, from its folder, is reached through; None for what is no disk of Fibre Channel."""
    for part in (folder / "device").resolve().parts:
        if _TARGET_FOLDER.fullmatch(part):
            try:
                name, node = [(_TRANSPORT / part / f"{kind}_name").read_text() for kind in ("port", "node")]
            except OSError:
                return None
            return Port(name=_comparable(name), node=_comparable(node))
    return None


def own_disks(data: dict[str, Any], folders: Iterable[Path]) -> list[Path]:
    """The disks, from their folders, that are reached through the volume's own ports: those that the connection names,
    and others of the same storage."""
    found = {folder: port_of(folder) for folder in folders}
    names = named_ports(data)
    nodes = {port.node for port in found.values() if port is not None and port.name in names}
    return [folder for folder, port in found.items() if port is not None and (port.name in names or port.node in nodes)]


def foreign_paths(data: dict[str, Any], folder: Path) -> list[str]:
    """The paths of a multipath map, from its folder, that lead to no port of the volume's own, with where to."""
    paths = host_tables.lower_devices(folder)
    own = own_disks(data, paths)
    return [_describe(path) for path in paths if path not in own]


def _describe(folder: Path) -> str:
    port = port_of(folder)
    return f"{folder.name} ({port.name if port else 'of no Fibre Channel port'})"


def _comparable(name: str) -> str:
    return name.strip().lower().removeprefix("0x").replace(":", "")
