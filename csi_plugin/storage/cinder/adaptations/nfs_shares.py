"""What Cinder's NFS driver does not say of its shares: that none is mounted, and how large a volume one of them takes.

It reports all shares as one pool, with the sum of their room; a volume is on one of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cinder import exception

from csi_plugin.storage.cinder import pool_facts
from csi_plugin.storage.cinder.driver_classes import attribute
from csi_plugin.storage.cinder.storage_away import StorageAway
from csi_plugin.units import GIB

_NOTED = "_cinderbox_rooms"
_FULL = 0.001


@contextmanager
def noted(driver: Any) -> Iterator[None]:
    """Around a reading of stats: keeps what the driver finds out about each share. Does nothing for other drivers."""
    if not is_nfs(driver):
        yield
        return
    rooms: dict[str, Any] = {}
    ask = driver._get_capacity_info

    def ask_and_note(share: str) -> Any:
        rooms[share] = found = ask(share)
        return found

    driver._get_capacity_info = ask_and_note
    try:
        yield
    finally:
        del driver._get_capacity_info
    setattr(driver, _NOTED, rooms)


def complete(driver: Any, stats: dict[str, Any]) -> None:
    """Add the largest volume's size; report as down a backend without a mounted share."""
    if not is_nfs(driver):
        return
    if attribute(driver, "shares") and not driver._mounted_shares:
        stats["backend_state"] = "down"
    if rooms := attribute(driver, _NOTED):
        stats[pool_facts.LARGEST_GB] = max(_largest(driver, *room) for room in rooms.values()) / GIB


def require_mounted(driver: Any, volume: Any) -> None:
    """Before a volume is touched: mount its share if it is not mounted. Raises StorageAway. Does nothing for other
    drivers."""
    share = volume.provider_location if is_nfs(driver) else None
    if not share:
        return
    try:
        driver._ensure_share_mounted(share)
    except exception.RemoteFSException as error:
        raise StorageAway(f"share {share} cannot be mounted: {error}") from error


def require_mounted_for(driver: Any, snapshot: Any) -> None:
    """The same before a snapshot is touched."""
    if is_nfs(driver):
        require_mounted(driver, snapshot.volume)


def check_is_gone(driver: Any, volume: Any) -> None:
    """After a deletion: raise VolumeBackendAPIException when the volume's file is still there."""
    if is_nfs(driver) and volume.provider_location and Path(path := driver.local_path(volume)).exists():
        raise exception.VolumeBackendAPIException(data=f"the driver deleted volume {volume.id}, and {path} is there")


def is_nfs(driver: Any) -> bool:
    """Whether it is Cinder's own, and not one of the vendors' that stand on it."""
    return bool(driver.__class__.__module__ == "cinder.volume.drivers.nfs")


def _largest(driver: Any, total: float, available: float, allocated: float) -> float:
    """Bytes of the largest volume that the driver would put on a share, as it decides that itself."""
    if total <= 0 or available <= _FULL * total or (total - available) / total > 1 - driver.reserved_percentage / 100:
        return 0.0
    return max(0.0, total * float(driver.max_over_subscription_ratio) - allocated)
