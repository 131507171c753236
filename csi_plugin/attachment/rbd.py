"""Ceph RBD: images that this host has mapped, and what os-brick keeps beside them."""

from pathlib import Path
from typing import Any

_DEVICES = Path("/sys/bus/rbd/devices")
_NO_SNAPSHOT = "-"
_MESSENGER_2_PORT = "3300"
"""Of monitors; those that speak only version 2 of Ceph's protocol have no other."""


def mapped_devices(pool: str, image: str) -> list[str]:
    """Paths of the devices that this host has of an image, as the kernel names them: udev's names may be absent."""
    found = []
    for folder in sorted(_DEVICES.glob("*"), key=lambda path: int(path.name) if path.name.isdecimal() else 0):
        try:
            names = [(folder / part).read_text().strip() for part in ("pool", "name", "current_snap")]
        except OSError:  # unmapped in the meantime
            continue
        if names == [pool, image, _NO_SNAPSHOT]:
            found.append(f"/dev/rbd{folder.name}")
    return found


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
