"""Which storage a backend's records are about: the directory that has its volumes, not the mount point below it.

A directory whose filesystem is not mounted looks like an empty one: every volume in it counts as deleted, new ones go
to another disk, and its room is that disk's. So a driver that keeps its volumes in a directory gives it an id, and the
records remember that. Drivers say that they can by having ``require_storage_id``; those of arrays have no need.
"""

import logging
import uuid
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

from csi_plugin.persistence.records import KeyValueRecord, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.storage.cinder.storage_away import StorageAway
from csi_plugin.storage.library_state import STATE

LOG = logging.getLogger(__name__)

PREFIX = "cinderbox/storage-id/"


def check_is_present(driver: Any, *, backend: str) -> None:
    """Before a driver looks at its storage: raise StorageAway when it is not the one that the records are about."""
    if not _has_id(driver):
        return
    found, expected = driver.storage_id(), _remembered(backend)
    if found is not None and found == (expected or found):
        return
    names = _recorded_names(backend)
    first = next(names, None)
    if first is None:
        return  # nothing of it can be lost
    path = driver.storage_id_path
    if expected is not None:
        raise StorageAway(
            f"{path} has the id {found or 'of none'}, and the volumes of backend {backend} are where it is {expected}: "
            f"mount that filesystem; if this is the right directory, write that id into the file"
        )
    if not any(driver.has_object(name) for name in (first, *names)):
        raise StorageAway(
            f"the directory of {path} has none of the volumes of backend {backend}: mount its filesystem; if this is "
            f"the right directory, write any id into the file"
        )


def remember(driver: Any, *, backend: str) -> None:
    """After a driver's start: give its storage an id unless it has one, and hold the driver to it."""
    if not _has_id(driver):
        return
    found = driver.storage_id()
    if found is None:
        found = driver.set_storage_id(_remembered(backend) or uuid.uuid4().hex)
        if found is None:
            LOG.warning(
                "%s cannot be written on a full filesystem; the next start attempts it again", driver.storage_id_path
            )
            return
    key = f"{PREFIX}{backend}"
    record = STATE.store.get(KeyValueRecord, key)
    if record is None:
        STATE.store.create(KeyValueRecord(id=key, value=found))
    elif record.value != found:
        record.value = found
        STATE.store.update(record)
    driver.require_storage_id(found)


def _has_id(driver: Any) -> bool:
    # Asked of the class: some drivers answer for any attribute of an instance, with an error of their own.
    return hasattr(driver.__class__, "require_storage_id")


def _remembered(backend: str) -> str | None:
    record = STATE.store.get(KeyValueRecord, f"{PREFIX}{backend}")
    return record.value if record is not None else None


def _recorded_names(backend: str) -> Iterator[str]:
    """Names in the storage of what the records say is there. What an attempt may have left is not known to be."""
    for volume in STATE.store.find(VolumeRecord, backend=backend):
        if volume.intent is None or volume.intent.phase not in (Phase.CREATING, Phase.ORPHAN):
            yield cfg.CONF.volume_name_template % (volume.name_id or volume.id)
    for snapshot in STATE.store.find(SnapshotRecord):
        if snapshot.backend == backend and (
            snapshot.intent is None or snapshot.intent.phase not in (Phase.CREATING, Phase.ORPHAN)
        ):
            yield cfg.CONF.snapshot_name_template % snapshot.id
