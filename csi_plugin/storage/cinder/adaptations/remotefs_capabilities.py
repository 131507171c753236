"""What Cinder's drivers for file shares cannot do, although their methods and stats say that they can."""

from typing import Any

from csi_plugin.storage.cinder.driver_classes import attribute


def lacks(driver: Any, capability: str) -> bool:
    """Whether a driver lacks a capability (named as by ``Backend.supports``) for a reason of this family's alone."""
    match capability:
        case "snapshot":
            # The one family of drivers that has snapshots only when told so.
            return _is_nfs(driver) and driver.configuration.safe_get("nfs_snapshot_support") is False
        case "copy_in_use" | "snapshots_in_use":
            # They ask Nova to copy a volume that is in use, and a snapshot makes its file qcow2.
            return attribute(driver, "_create_snapshot_online") is not None
        case "online_extend":
            # NFS refuses, and its stats do not say so (Launchpad bug 1870367).
            return bool(driver.extend_volume.__module__ == "cinder.volume.drivers.nfs")
        case "revert":
            return _only_refuses_to_revert(driver)
    return False


def _only_refuses_to_revert(driver: Any) -> bool:
    """Whether its method is the family's, which calls another one that a driver has to have of its own."""
    family = "cinder.volume.drivers.remotefs"
    method, inner = attribute(driver, "revert_to_snapshot"), attribute(driver, "_revert_to_snapshot")
    return (
        getattr(method, "__module__", None) == family
        and getattr(inner, "__qualname__", None) == "RemoteFSSnapDriverBase._revert_to_snapshot"
    )


def _is_nfs(driver: Any) -> bool:
    return any(cls.__name__ == "RemoteFSDriver" for cls in driver.__class__.__mro__)
