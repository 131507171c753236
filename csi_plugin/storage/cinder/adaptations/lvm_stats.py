"""What Cinder's LVM driver does not look at: the metadata of its thin pool, and the state of its thick snapshots.

A thin pool whose metadata is full is corrupt, however much room its data has. A thick snapshot that has no room left
for what changes in its volume is worthless, and nothing but LVM says so.
"""

import logging
from typing import Any

from cinder.volume import volume_utils
from oslo_concurrency import processutils

from csi_plugin.storage.cinder import pool_facts
from csi_plugin.storage.cinder.adaptations import lvm_tools
from csi_plugin.storage.cinder.adaptations.lvm_tools import LogicalVolume

LOG = logging.getLogger(__name__)

METADATA_LIMIT_PERCENT = 90.0
"""How full a thin pool's metadata may be for anything new to be made. What there is needs some of the rest."""


def complete(driver: Any, stats: dict[str, Any]) -> None:
    """Add pool_facts to the stats of the one pool that the driver has. Does nothing for other drivers."""
    if not lvm_tools.is_lvm(driver) or not stats.get("pools"):
        return
    try:
        found = lvm_tools.logical_volumes(driver)
    except (processutils.ProcessExecutionError, OSError) as error:
        LOG.warning("state of thin pools and snapshots in group %s cannot be read: %s", driver.vg.vg_name, error)
        return
    (pool,) = stats["pools"]
    stats["pools"] = [
        {**pool, **(_of_snapshots(found) if lvm_tools.is_thick(driver) else _of_thin_pool(driver, found))}
    ]


def _of_thin_pool(driver: Any, found: list[LogicalVolume]) -> dict[str, Any]:
    thin = next((each for each in found if each.name == driver.vg.vg_thin_pool), None)
    if thin is None:
        return {}
    facts: dict[str, Any] = {}
    name = f"thin pool {driver.vg.vg_name}/{thin.name}"
    if thin.metadata_percent is not None:
        facts[pool_facts.METADATA_PERCENT] = thin.metadata_percent
        if thin.metadata_percent >= METADATA_LIMIT_PERCENT:
            facts[pool_facts.REFUSAL] = (
                f"the metadata of {name} is {thin.metadata_percent:.0f}% full, and {METADATA_LIMIT_PERCENT:.0f}% is "
                f"the most: extend it (lvextend --poolmetadatasize)"
            )
    if thin.health:
        facts[pool_facts.REFUSAL] = f"LVM reports {name} as {thin.health}"
    return facts


def _of_snapshots(found: list[LogicalVolume]) -> dict[str, Any]:
    used = [each.snapshot_percent for each in found if each.snapshot_percent is not None]
    ids = [
        volume_utils.extract_id_from_snapshot_name(each.name.removeprefix("_"))
        for each in found
        if each.is_invalid and each.attributes[:1] in ("s", "S")
    ]
    facts: dict[str, Any] = {pool_facts.INVALID_SNAPSHOTS: sorted(filter(None, ids))}
    if used:
        facts[pool_facts.SNAPSHOT_PERCENT] = max(used)
    return facts
