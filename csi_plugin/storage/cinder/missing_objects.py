"""What a driver says is not there, on the way out: that is an end as good as its deletion.

Only the driver's own word about this very object counts, and only while there is reason to think that it looks at the
storage that the object was recorded on: after a wrong edit of a backend's options, everything is "not there".
"""

import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from cinder import exception
from oslo_config import cfg

from csi_plugin.error_text import error_text
from csi_plugin.persistence.records import GroupRecord, Record, VolumeRecord
from csi_plugin.storage.cinder import completed_stats, driver_stats
from csi_plugin.storage.cinder.driver_classes import implements
from csi_plugin.storage.library_state import STATE

LOG = logging.getLogger(__name__)

PAGE_LIMIT = 1_000_000
"""Drivers page by themselves; Cinder's API asks for a limit, and here the caller gets the whole list."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MOST_OTHERS = 1000
"""Volumes that are looked for in the driver's list: one of them is enough."""


@contextmanager
def gone_is_done(
    driver: Any, volume: Any, *, kind: type[Record], ids: Collection[str | None], errors: tuple[type[Exception], ...]
) -> Iterator[None]:
    """Let a step that takes something away end well when the driver says that it is not there.

    ``volume``: Cinder's volume that it is, or is of, None where that is not known; ``kind``, and the first of ``ids``:
    of the record that is told of it; ``ids``: what names the object; ``errors``: the driver's words for it. Anything
    else, and any doubt, leaves the error.
    """
    try:
        yield
    except errors as error:
        is_there = not isinstance(error, exception.VolumeNotFound)
        if not names_it_alone(error, ids) or not _is_recorded_storage(driver, volume, is_there=is_there):
            raise
        _tell(kind, next(found for found in ids if found), error)


@contextmanager
def gone_group_is_done(group_id: str) -> Iterator[None]:
    """Let a group go, or lose volumes, when the driver says that it is not there. The group itself has no data, so it
    does not count whether this is the storage that it was recorded on."""
    try:
        yield
    except GROUP_GONE as error:
        if not names_it_alone(error, (group_id,)):
            raise
        _tell(GroupRecord, group_id, error)


def group_is_gone(error: BaseException, group_id: str) -> bool:
    """Whether a driver's error says that this very group is not there."""
    return isinstance(error, GROUP_GONE) and names_it_alone(error, (group_id,))


def _tell(kind: type[Record], object_id: str, error: Exception) -> None:
    reason = f"it was to be removed, and the storage says that it is not there: {error_text(error)}"
    LOG.warning("%s %s: %s", kind.KIND, object_id, reason)
    STATE.store.record_event(kind, object_id, "FoundGone", reason)


def names_it_alone(error: Exception, ids: Collection[str | None]) -> bool:
    """Whether an error speaks of the object that has these ids, and of no other."""
    named = {found.lower() for found in _UUID.findall(str(error))}
    return bool(named) and named <= {found.lower() for found in ids if found}


def _is_recorded_storage(driver: Any, volume: Any, *, is_there: bool) -> bool:
    """Whether the driver reaches its storage now, and finds there what the records say, as far as it can tell.

    ``is_there``: whether the volume itself should be.
    """
    record = STATE.store.get(VolumeRecord, volume.id) if volume is not None else None
    backend_name = str(driver.host).partition("@")[2]
    if record is None or record.backend != backend_name:
        return False
    try:
        stats = completed_stats.read(driver)
        listed = _listed_names(driver)
    except Exception as error:  # noqa: BLE001
        # Drivers raise anything; whatever it is, nothing of what they say is sure now.
        LOG.info("backend %s cannot tell what it has: %s", backend_name, error_text(error))
        return False
    pools = [pool.get("pool_name") for pool in stats.get("pools", [])]
    if not driver_stats.is_up(stats) or (pools and record.pool and record.pool not in pools):
        return False
    return listed is None or _has_what_is_recorded(listed, record, is_there=is_there)


def _listed_names(driver: Any) -> set[str] | None:
    """Names of the volumes that the storage has; None for a driver that cannot list."""
    if not implements(driver, "get_manageable_volumes"):
        return None
    try:
        entries = driver.get_manageable_volumes([], None, PAGE_LIMIT, 0, ["size"], ["asc"])
    except NotImplementedError:
        return None
    return {str((entry.get("reference") or {}).get("source-name")) for entry in entries}


def _has_what_is_recorded(listed: set[str], record: VolumeRecord, *, is_there: bool) -> bool:
    """Whether the list lacks a volume that is said to be gone, and has one of the others, if there are others."""
    if not is_there and _name(record) in listed:
        return False
    others = [
        other
        for other in STATE.store.find(VolumeRecord, backend=record.backend)
        if other.status not in ("creating", "error") and (is_there or other.id != record.id)
    ]
    return not others or any(_name(other) in listed for other in islice(others, _MOST_OTHERS))


def _name(record: VolumeRecord) -> str:
    name: str = cfg.CONF.volume_name_template % (record.name_id or record.id)
    return name


VOLUME_GONE = (exception.VolumeNotFound,)
SNAPSHOT_GONE = (exception.SnapshotNotFound,)
CONNECTION_GONE = (exception.VolumeNotFound, exception.VolumeAttachmentNotFound)
GROUP_SNAPSHOT_GONE = (exception.GroupSnapshotNotFound,)
GROUP_GONE = (exception.GroupNotFound,)
