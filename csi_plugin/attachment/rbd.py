"""Ceph RBD: what os-brick keeps beside a mapped image."""

from pathlib import Path
from typing import Any


def without_lost_conf(device_info: dict[str, Any]) -> dict[str, Any]:
    """Device information without the ceph.conf that os-brick wrote, once that is gone: unmapping needs no keyring."""
    if "conf" not in device_info or Path(device_info["conf"]).exists():
        return device_info
    return {name: value for name, value in device_info.items() if name != "conf"}
