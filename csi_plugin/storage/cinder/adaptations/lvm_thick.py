"""What Cinder's LVM driver leaves to an operator where volumes are thick: what others left on the disks, and snapshots.

New extents hold what was on them before: volumes that were deleted without being cleared, or not by Cinder at all. So
a new volume, and what one grows by, is made zeros before anybody sees it, unless its class says that all who use the
storage trust each other (the extra spec ``cinderbox:trusted_storage``).
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cinder import exception
from oslo_concurrency import processutils

from csi_plugin.storage.cinder.adaptations import lvm_tools
from csi_plugin.units import GIB

LOG = logging.getLogger(__name__)

TRUSTED = "cinderbox:trusted_storage"
"""Extra spec of volumes that may show what others have deleted."""

_TABLE_SHARE = 256
"""A snapshot's room holds a table beside the data: 16 bytes for each chunk of 4 KiB that has changed."""
_TABLE_HEADER = 64 * 1024

_grows_trusted = threading.local()


def lacks(driver: Any, capability: str) -> bool:
    """Whether a driver lacks a capability (named as by ``Backend.supports``) since its volumes are thin."""
    return capability == "revert" and lvm_tools.is_lvm(driver) and not lvm_tools.is_thick(driver)


def prepare(driver: Any, *, wanted_type: str) -> None:
    """After a driver's start. ``wanted_type``: lvm_type as it was configured, which the driver then changes."""
    if not lvm_tools.is_lvm(driver):
        return
    if wanted_type == "auto":
        _tell_choice(driver)
    if not lvm_tools.is_thick(driver):
        _tell_of_old_blocks(driver)
    driver.vg.extend_volume = _repeatable(driver, driver.vg.extend_volume)


def _tell_choice(driver: Any) -> None:
    group = driver.configuration.volume_group
    if lvm_tools.is_thick(driver):
        LOG.warning(
            "lvm_type auto chose thick volumes, since group %s has volumes and no thin pool %s-pool: each takes all of "
            "its room at once and is zeroed when it is created; set lvm_type to default or thin to say which you want",
            group,
            group,
        )
    else:
        LOG.info("lvm_type auto chose thin volumes in pool %s-pool of group %s", group, group)


def _tell_of_old_blocks(driver: Any) -> None:
    pool = lvm_tools.logical_volume(driver, driver.vg.vg_thin_pool) if driver.vg.vg_thin_pool else None
    if pool is not None and pool.attributes[7:8] != "z":
        LOG.warning(
            "thin pool %s/%s was made without zeroing: volumes show what others have deleted, beside what is first "
            "written to a block; turn it on with lvchange --zero y",
            driver.vg.vg_name,
            pool.name,
        )


def clear_new(driver: Any, volume: Any, *, start_gib: int = 0) -> None:
    """A volume that was just made, from a GiB on: zeros. Does nothing for other drivers, and where trusted."""
    if lvm_tools.is_thick(driver) and not _is_trusted(volume) and volume.size > start_gib:
        lvm_tools.zero(driver, driver.local_path(volume), start=start_gib * GIB)


@contextmanager
def growing(driver: Any, volume: Any) -> Iterator[None]:
    """Around the growth of a volume: what it grows by is cleared, before its target shows it, unless it is trusted."""
    _grows_trusted.value = lvm_tools.is_thick(driver) and _is_trusted(volume)
    try:
        yield
    finally:
        _grows_trusted.value = False


def _repeatable(driver: Any, extend: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """The driver's extension, which LVM refuses for a volume that has its new size already, since a crash cut off the
    last attempt; what a thick volume grows by is cleared."""

    def extend_once(name: str, size: str) -> None:
        before = lvm_tools.logical_volume(driver, name)
        clears = lvm_tools.is_thick(driver) and not getattr(_grows_trusted, "value", False)
        if before is not None and before.size >= int(size.removesuffix("g")) * GIB:
            if clears:
                # A node may have seen the new size meanwhile, and have written there.
                LOG.warning("%s has its new size already; what it grew by is not cleared again", name)
            return
        extend(name, size)
        if before is not None and clears:
            lvm_tools.zero(driver, f"/dev/{driver.vg.vg_name}/{name}", start=before.size)

    return extend_once


def _is_trusted(volume: Any) -> bool:
    volume_type = volume.volume_type
    extra_specs = (volume_type.extra_specs if volume_type else None) or {}
    return str(extra_specs.get(TRUSTED, "")).lower() in ("true", "<is> true")


def make_room_for_table(driver: Any, snapshot: Any) -> None:
    """A snapshot that was just taken: give it room for its table too, so that it holds a volume of which everything
    changes. Without that room the snapshot is removed again, and the error raised."""
    if not lvm_tools.is_thick(driver):
        return
    size = snapshot.volume_size * GIB // _TABLE_SHARE + _TABLE_HEADER
    try:
        lvm_tools.extend(driver, driver._escape_snapshot(snapshot.name), by=size)
    except processutils.ProcessExecutionError as error:
        if "insufficient" in str(error.stderr).lower():
            driver.delete_snapshot(snapshot)
            raise
        LOG.warning("snapshot %s keeps the room that it was created with: %s", snapshot.name, error.stderr)


def check_snapshot(driver: Any, snapshot: Any) -> None:
    """Before a snapshot is read: raise InvalidSnapshot when it has lost its data. Does nothing for other drivers."""
    if not lvm_tools.is_thick(driver):
        return
    found = lvm_tools.logical_volume(driver, driver._escape_snapshot(snapshot.name))
    if found is not None and found.is_invalid:
        raise exception.InvalidSnapshot(
            reason=f"snapshot {snapshot.id} is lost: its volume changed by more than it had room for; delete it"
        )


def delete_odd_volume(driver: Any, volume: Any) -> bool:
    """Delete a volume that the driver itself cannot, and say whether it was one: of another size than recorded, as
    adopted ones are, which the driver would clear beyond their end. One that is not active is activated."""
    if not lvm_tools.is_thick(driver) or driver.configuration.volume_clear == "none":
        return False
    found = lvm_tools.logical_volume(driver, volume.name)
    if found is None:
        return False
    if not Path(driver.local_path(volume)).exists():
        driver.vg.activate_lv(volume.name)
    if found.size >= volume.size * GIB:
        return False
    if driver.vg.lv_has_snapshot(volume.name):
        raise exception.VolumeIsBusy(volume_name=volume.name)
    lvm_tools.zero(driver, driver.local_path(volume))
    driver.vg.delete(volume.name)
    return True


def remove_inner_names(driver: Any, volume: Any) -> None:
    """Remove the snapshot of its source that the driver takes while it clones to this volume, if a crash left it."""
    if not lvm_tools.is_thick(driver):
        return
    name = f"clone-snap-{volume.id}"
    if lvm_tools.logical_volume(driver, name) is not None:
        LOG.warning("removing %s, which an interrupted clone left", name)
        driver.vg.delete(name)
