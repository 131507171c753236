"""A driver's stats, with what its family leaves out of them."""

from typing import Any

from csi_plugin.storage.cinder.adaptations import lvm_stats, nfs_shares, rbd_stats
from csi_plugin.storage.cinder.driver_answers import check_stats


def read(driver: Any) -> dict[str, Any]:
    """A driver's stats of now, completed. Raises what it raises, and InvalidAnswer."""
    with nfs_shares.noted(driver):
        return complete(driver, driver.get_volume_stats(refresh=True))


def complete(driver: Any, stats: Any) -> dict[str, Any]:
    """What a driver answered, held to what stats are, and completed; see pool_facts. Raises InvalidAnswer."""
    checked = check_stats(stats)
    for add in (rbd_stats.complete, nfs_shares.complete, lvm_stats.complete):
        add(driver, checked)
    return checked
