"""Fibre Channel: the storage's port that each disk of this host is reached through. Nothing here changes anything."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_plugin.attachment import host_tables

_TRANSPORT = Path("/sys/class/fc_transport")
_TARGET_FOLDER = re.compile(r"target\d+:\d+:\d+")
_PROTOCOLS = ("fibre_channel",)


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
