"""Where drivers that need no array have their volumes, so that two backends in one and the same place can be told.

Cinder allows it, and names of volumes never collide. But each driver reports the room of the place as its own, and some
count only what they have promised themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi_plugin.storage.cinder.adaptations import lvm_tools, nfs_shares
from csi_plugin.storage.cinder.driver_classes import attribute


@dataclass(frozen=True, kw_only=True)
class Place:
    """A directory's filesystem, a volume group, a pool, a share."""

    key: str
    """The same for all who have volumes there."""
    name: str
    """For people."""
    warning: str = ""
    """What else there is to say where others are in it too."""


def places_of(driver: Any, stats: Mapping[str, Any]) -> list[Place]:
    """Those of a driver that has started; none for other drivers. Does not ask the storage."""
    families = {cls.__name__ for cls in driver.__class__.__mro__}
    if "LoopDriver" in families:
        return [_filesystem(Path(driver.configuration.loop_volumes_dir))]
    if lvm_tools.is_lvm(driver):
        group = f"volume group {driver.configuration.volume_group}"
        return [Place(key=group, name=group)]
    if "RBDDriver" in families:
        return [_ceph_pool(driver, str(stats.get("location_info", "")))]
    if nfs_shares.is_nfs(driver):
        shares = [f"NFS share {share}" for share in attribute(driver, "shares") or ()]
        return [Place(key=share, name=share) for share in shares]
    return []


def _filesystem(directory: Path) -> Place:
    warning = (
        "each counts what is in its own directory, so that with two directories they promise more than "
        "max_over_subscription_ratio says"
    )
    return Place(key=f"device {directory.stat().st_dev}", name=f"the filesystem of {directory}", warning=warning)


def _ceph_pool(driver: Any, location: str) -> Place:
    warning = ""
    if driver.configuration.safe_get("rbd_exclusive_cinder_pool"):
        warning = (
            "it counts its own volumes alone, so that together they promise more than max_over_subscription_ratio "
            "says: set rbd_exclusive_cinder_pool to false for both"
        )
    # As the driver writes it: name of the cluster, file, id of the cluster, user, pool.
    cluster = dict(enumerate(location.split(":"))).get(2) or driver.configuration.rbd_ceph_conf
    pool = driver.configuration.rbd_pool
    return Place(key=f"ceph {cluster} {pool}", name=f"pool {pool} of Ceph cluster {cluster}", warning=warning)
