"""Ceph RBD: images that this host has mapped, and what os-brick keeps beside them."""

import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_DEVICES = Path("/sys/bus/rbd/devices")
_NO_SNAPSHOT = "-"
_MESSENGER_2_PORT = "3300"
"""Of monitors; those that speak only version 2 of Ceph's protocol have no other."""


def mapped_devices(data: dict[str, Any], *, known: str = "") -> list[str]:
    """Paths of the devices that this host has of a connection's image, as the kernel names them: udev's names may be
    absent.

    An image of that name in a namespace of the pool is another one, and so is one of another Ceph cluster, as the other
    side of a mirror is: its monitors tell. ``known``: a device that is the volume's whatever its monitors are by now.
    """
    pool, image = str(data["name"]).split("/")
    monitors = _addresses(data.get("hosts") or [])
    found = []
    for folder in sorted(_DEVICES.glob("*"), key=lambda path: int(path.name) if path.name.isdecimal() else 0):
        try:
            names = [(folder / part).read_text().strip() for part in ("pool", "name", "current_snap")]
        except OSError:  # unmapped in the meantime
            continue
        device = f"/dev/rbd{folder.name}"
        if names != [pool, image, _NO_SNAPSHOT] or _read(folder / "pool_ns"):
            continue
        if device == known or not _is_of_others(_read(folder / "config_info"), monitors):
            found.append(device)
    return found


def _is_of_others(config: str, monitors: set[str] | None) -> bool:
    """Whether a device was mapped with none of a connection's monitors; False where that is not known.

    ``config``: what the kernel was told, monitors first.
    """
    told = _addresses([monitor.rpartition(":")[0] for monitor in config.partition(" ")[0].split(",")])
    return bool(told and monitors and told.isdisjoint(monitors))


def _addresses(hosts: Iterable[str]) -> set[str] | None:
    """None where one of them is no address, nor a name that anybody knows."""
    found = set()
    for host in hosts:
        try:
            entries = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return None
        found |= {str(ipaddress.ip_address(str(entry[4][0]))) for entry in entries}
    return found


def _read(attribute: Path) -> str:
    try:
        return attribute.read_text().strip()
    except OSError:
        return ""  # older kernels have none


def map_options(data: dict[str, Any]) -> list[str]:
    """Words of ``rbd map`` for a connection: the backend's options (``map_options``), and a mode for monitors that
    speak version 2 of the protocol alone, as the kernel speaks version 1 unless told."""
    options = [word for word in str(data.get("map_options") or "").split(",") if word]
    ports = data.get("ports") or []
    is_told = any(word.startswith("ms_mode=") for word in options)
    if not is_told and ports and all(str(port) == _MESSENGER_2_PORT for port in ports):
        options.append("ms_mode=prefer-crc")
    return ["--options", ",".join(options)] if options else []


def without_lost_conf(device_info: dict[str, Any]) -> dict[str, Any]:
    """Device information without the ceph.conf that os-brick wrote, once that is gone: unmapping needs no keyring."""
    if "conf" not in device_info or Path(device_info["conf"]).exists():
        return device_info
    return {name: value for name, value in device_info.items() if name != "conf"}
