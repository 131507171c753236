"""What a Cinder driver can do, decided from its methods and its stats, without a call to the storage."""

from collections.abc import Mapping
from typing import Any

from csi_plugin.storage.cinder import driver_classes

_DECIDED_HERE = ("clone", "copy_in_use", "extend", "snapshot", "snapshots_in_use")
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
    if capability not in {*_DECIDED_HERE, *_CAPABILITY_METHODS, *_CAPABILITY_STATS}:
        raise ValueError(f"unknown capability {capability!r}")
    if capability == "snapshot":
        # The one family of drivers that has snapshots only when told so.
        return driver.configuration.safe_get("nfs_snapshot_support") is not False or not _is_nfs(driver)
    if capability in ("copy_in_use", "snapshots_in_use"):
        # Those whose volumes are files: they ask Nova to copy one that runs, and a snapshot makes it qcow2.
        return driver_classes.attribute(driver, "_create_snapshot_online") is None
    if capability == "online_extend" and driver.extend_volume.__module__ == "cinder.volume.drivers.nfs":
        # It refuses, and its stats do not say so (Launchpad bug 1870367).
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


def _is_nfs(driver: Any) -> bool:
    return any(cls.__name__ == "RemoteFSDriver" for cls in driver.__class__.__mro__)
