"""What a Cinder driver can do, decided from its methods and its stats, without a call to the storage."""

from collections.abc import Mapping
from typing import Any

from csi_plugin.storage.cinder import driver_classes
from csi_plugin.storage.cinder.adaptations import lvm_thick, remotefs_capabilities

_ASSUMED = ("clone", "copy_in_use", "extend", "snapshot", "snapshots_in_use")
"""What every driver can, unless its family cannot."""
_CAPABILITY_METHODS = {
    "revert": "revert_to_snapshot",
    "groups": "create_group_snapshot",
    "retype": "retype",
    "manage": "manage_existing",
    "list_manageable": "get_manageable_volumes",
    "migrate": "migrate_volume",
}
_CAPABILITY_STATS = {
    "online_extend": ("online_extend_support", True),
    "multiattach": ("multiattach", False),
    "qos": ("QoS_support", False),
    "groups": ("consistent_group_snapshot_enabled", False),
    "thin": ("thin_provisioning_support", False),
}
"""Capability: its name in a driver's stats, and what a driver means that does not report it."""


def supports(driver: Any, capability: str, *, stats: Mapping[str, Any]) -> bool:
    """``Backend.supports``, which lists the capabilities. ``stats``: the driver's last ones, with pools."""
    if capability not in {*_ASSUMED, *_CAPABILITY_METHODS, *_CAPABILITY_STATS}:
        raise ValueError(f"unknown capability {capability!r}")
    if remotefs_capabilities.lacks(driver, capability) or lvm_thick.lacks(driver, capability):
        return False
    method = _CAPABILITY_METHODS.get(capability)
    if method is not None and not driver_classes.implements(driver, method):
        return False
    if capability in _CAPABILITY_STATS:
        return _reports(stats, *_CAPABILITY_STATS[capability])
    return True


def _reports(stats: Mapping[str, Any], name: str, default: bool) -> bool:
    values = [pool.get(name, stats.get(name, default)) for pool in stats["pools"]] or [stats.get(name, default)]
    return any(str(value).lower() in ("true", "<is> true", "1") for value in values)
