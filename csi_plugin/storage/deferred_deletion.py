"""Deletions that wait: a volume or snapshot that its owner deleted goes when the last thing that needs it has gone."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from csi_plugin.persistence.records import GroupSnapshotRecord, Intent, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.persistence.sealing import SealingError
from csi_plugin.storage.changed_storage import check_is_there
from csi_plugin.storage.cinder import driver_calls
from csi_plugin.storage.library_state import STATE, BackendMissing, new_object

if TYPE_CHECKING:
    from csi_plugin.storage.volume import Volume

LOG = logging.getLogger(__name__)

AWAITING_DEPENDANTS = "deferred_deleting"
"""Status of a volume that is deleted for its owner while the backend still needs it."""

_looking_lock = threading.Lock()
_looking: dict[str, bool] = {}
"""Ids of what a thread is looking at, each with whether it has to look again before it leaves."""


def finish_deferred(volume_id: str) -> bool:
    """Delete a volume from its backend if it is deferred and nothing needs it any more; whether it is gone.

    Never raises for a driver's error: the record keeps it as its condition, and a later attempt may succeed. Safe to
    call from several threads of one process.
    """
    return _look(volume_id, lambda: _finish_volume_unless_needed(volume_id))


def finish_deferred_snapshot(snapshot_id: str) -> bool:
    """The same for a snapshot, which may go with the group snapshot that it is of."""
    record = STATE.store.get(SnapshotRecord, snapshot_id)
    if record is None:
        return True
    if not is_deferred(record):
        return False
    _look(record.group_snapshot_id or record.id, lambda: _finish_snapshot(record))
    return STATE.store.get(SnapshotRecord, snapshot_id) is None


def defer(volume: "Volume", condition: str) -> None:
    """Record that a volume is deleted for its owner, and why the backend keeps it."""
    if volume.intent is None:
        volume.intent = Intent(name=volume._ovo.display_name or volume._ovo.id)
    volume._ovo.status = AWAITING_DEPENDANTS
    volume._set_phase(Phase.DEFERRED, condition)
    volume.save()
    volume.backend._volume_removed(volume)


def forget(volume: "Volume") -> None:
    """Delete the record of a volume that is not on the backend any more, or not ours."""
    STATE.store.delete(volume.record)
    volume.backend._volume_removed(volume)
    volume._ovo.status = "deleted"
    volume._ovo.deleted, volume._ovo.deleted_at = True, datetime.now(UTC)


def finish_source(volume: "Volume") -> None:
    """A volume that has gone may have been the last that its deferred source, or its source's volume, was kept for."""
    if volume._ovo.source_volid:
        finish_deferred(volume._ovo.source_volid)
    if volume._ovo.snapshot_id:
        snapshot = STATE.store.get(SnapshotRecord, volume._ovo.snapshot_id)
        if snapshot:
            finish_deferred_snapshot(snapshot.id)
            finish_deferred(snapshot.volume_id)


def is_deferred(record: VolumeRecord | SnapshotRecord | GroupSnapshotRecord) -> bool:
    return record.intent is not None and record.intent.phase is Phase.DEFERRED


def _look(object_id: str, look: Callable[[], bool]) -> bool:
    """What the last look found. While another thread looks at the object, False: that one looks once more."""
    with _looking_lock:
        busy = object_id in _looking
        _looking[object_id] = True
    if busy:
        # The other thread may have looked before our caller's dependant went.
        return False
    gone = False
    try:
        while _has_to_look(object_id):
            gone = _unless_unreadable(look)
    except BaseException:
        with _looking_lock:
            del _looking[object_id]
        raise
    return gone


def _unless_unreadable(look: Callable[[], bool]) -> bool:
    """Look; False where no sealing key opens the record, or its backend is not up: no business of our caller's."""
    try:
        return look()
    except (SealingError, BackendMissing) as error:
        LOG.warning("what was deleted by its owner stays on the backend: %s", error)
        return False


def _has_to_look(object_id: str) -> bool:
    """Whether anyone asked for a look since the last one; if not, the thread that looks has left."""
    with _looking_lock:
        asked = _looking.pop(object_id)
        if asked:
            _looking[object_id] = False
        return asked


def _finish_volume_unless_needed(volume_id: str) -> bool:
    record = STATE.store.get(VolumeRecord, volume_id)
    if record is None:
        return True
    if not is_deferred(record) or STATE.store.find(SnapshotRecord, volume_id=volume_id, limit=1):
        return False
    return _finish_volume(new_object(record))


def _finish_volume(volume: "Volume") -> bool:
    try:
        check_is_there(volume.backend, volume.record)
        volume._call_driver(lambda driver: driver_calls.delete_volume(driver, volume._ovo))
    except Exception as error:  # noqa: BLE001
        # Whatever a driver raises, the volume stays deferred and is attempted again when the next dependant goes.
        LOG.warning("volume %s, deleted by its owner, still stays on the backend: %s", volume._ovo.id, error)
        defer(volume, str(error))
        return False
    forget(volume)
    finish_source(volume)
    return True


def _finish_snapshot(record: SnapshotRecord) -> bool:
    group_snapshot_id = record.group_snapshot_id
    group_snapshot = STATE.store.get(GroupSnapshotRecord, group_snapshot_id) if group_snapshot_id else None
    if group_snapshot is not None:
        return bool(new_object(group_snapshot)._finish_deferred())
    current = STATE.store.get(SnapshotRecord, record.id)
    if current is None:
        return True
    return is_deferred(current) and bool(new_object(current)._finish_deferred())
