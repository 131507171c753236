"""Deletion of a volume: refused, done, or deferred until the last dependant that the backend keeps it for has gone."""

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.base import RecordNotFound, RevisionConflict
from csi_plugin.persistence.records import ConnectionRecord, Intent, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.storage import codec
from csi_plugin.storage.cinder import driver_calls, exception
from csi_plugin.storage.library_state import STATE, class_of

if TYPE_CHECKING:
    from csi_plugin.storage.volume import Volume

LOG = logging.getLogger(__name__)

AWAITING_DEPENDANTS = "deferred_deleting"
"""Status of a volume that is deleted for its owner while the backend still needs it."""

_finishing_lock = threading.Lock()
_finishing: dict[str, bool] = {}
"""Deferred volumes that a thread is looking at, each with whether it has to look again before it leaves."""

_DEPENDANT_LOCKS = tuple(threading.Lock() for _ in range(64))
"""Volumes share them by the hash of their ids: nothing is held but a few statements on the records."""


def dependant_lock(volume_id: str) -> threading.Lock:
    """Held while a deletion or a new dependant is recorded: of two threads, the second sees the first's record."""
    return _DEPENDANT_LOCKS[hash(volume_id) % len(_DEPENDANT_LOCKS)]


def delete(volume: "Volume", *, deferred: bool) -> None:
    """``Volume.delete``; the caller holds a slot of the backend."""
    with dependant_lock(volume._ovo.id):
        previous = _begin(volume, deferred)
    if previous is None:
        # The snapshots it waits for may have gone just before that was recorded.
        finish_deferred(volume._ovo.id)
        return
    try:
        volume._call_driver(lambda driver: driver_calls.delete_volume(driver, volume._ovo))
    except exception.VolumeIsBusy as error:
        if deferred:
            _defer(volume, str(error))
            finish_deferred(volume._ovo.id)
            return
        _restore_status(volume, previous)
        volume._save_deletion(exception.VolumeNotFound(volume_id=volume._ovo.id))
        raise
    except Exception:
        # Drivers raise anything; a repeat may succeed.
        volume._ovo.status = "error_deleting"
        volume._save_deletion(exception.VolumeNotFound(volume_id=volume._ovo.id))
        raise
    failpoint("delete.driver_done")
    forget(volume)
    failpoint("delete.saved")
    _finish_source(volume)


def forget(volume: "Volume") -> None:
    """Delete the record of a volume that is not on the backend any more, or not ours."""
    STATE.store.delete(volume.record)
    volume.backend._volume_removed(volume)
    volume._ovo.status = "deleted"
    volume._ovo.deleted, volume._ovo.deleted_at = True, datetime.now(UTC)


def finish_deferred(volume_id: str) -> bool:
    """Delete a volume from its backend if it is deferred and nothing needs it any more; whether it is gone.

    Never raises for a driver's error: the record keeps it as its condition, and a later attempt may succeed. Safe to
    call from several threads of one process.
    """
    with _finishing_lock:
        busy = volume_id in _finishing
        _finishing[volume_id] = True
    if busy:
        # The other thread may have looked before our caller's dependant went: it has been told to look again.
        return False
    gone = False
    try:
        while _has_to_look(volume_id):
            gone = _finish_unless_needed(volume_id)
    except BaseException:
        with _finishing_lock:
            del _finishing[volume_id]
        raise
    return gone


def _begin(volume: "Volume", deferred: bool) -> str | None:
    """Record the deletion, and return the status before; None when it has to wait for snapshots."""
    volume_id = volume._ovo.id
    if STATE.store.find(ConnectionRecord, volume_id=volume_id, limit=1):
        raise exception.InvalidVolume(reason=f"volume {volume_id} is connected; disconnect it first")
    if STATE.store.find(SnapshotRecord, volume_id=volume_id, limit=1):
        if not deferred:
            raise exception.InvalidVolume(reason=f"volume {volume_id} has snapshots; delete them first")
        _defer(volume, "its snapshots need it")
        return None
    previous = str(volume._ovo.status)
    volume._ovo.status, volume._ovo.terminated_at = "deleting", datetime.now(UTC)
    volume._set_phase(Phase.DELETING)
    volume._save_deletion(exception.VolumeNotFound(volume_id=volume_id))
    failpoint("delete.recorded")
    if any(STATE.store.find(kind, volume_id=volume_id, limit=1) for kind in (ConnectionRecord, SnapshotRecord)):
        # Another process's, between the first look and the record. Who comes now sees the record and refuses.
        _withdraw(volume, previous)
        raise exception.InvalidVolume(reason=f"volume {volume_id} was snapshotted or connected meanwhile")
    return previous


def _withdraw(volume: "Volume", previous_status: str) -> None:
    """Take the record of this deletion back, unless another deletion has written its own, or has ended, since."""
    _restore_status(volume, previous_status)
    try:
        volume._note_stored(STATE.store.update(volume.record))
    except (RecordNotFound, RevisionConflict):
        return
    codec.reset_changes(volume._ovo)


def _restore_status(volume: "Volume", previous_status: str) -> None:
    volume._ovo.status, volume._ovo.terminated_at = previous_status, None
    volume._set_phase(Phase.READY)


def _has_to_look(volume_id: str) -> bool:
    """Whether anyone asked for a look since the last one; if not, the thread that looks has left."""
    with _finishing_lock:
        asked = _finishing.pop(volume_id)
        if asked:
            _finishing[volume_id] = False
        return asked


def _finish_unless_needed(volume_id: str) -> bool:
    record = STATE.store.get(VolumeRecord, volume_id)
    if record is None:
        return True
    if not _is_deferred(record) or STATE.store.find(SnapshotRecord, volume_id=volume_id, limit=1):
        return False
    return _finish(class_of(VolumeRecord).from_record(record))


def _finish(volume: "Volume") -> bool:
    try:
        volume._call_driver(lambda driver: driver_calls.delete_volume(driver, volume._ovo))
    except Exception as error:  # noqa: BLE001
        # Whatever a driver raises, the volume stays deferred and is attempted again when the next dependant goes.
        LOG.warning("volume %s, deleted by its owner, still stays on the backend: %s", volume._ovo.id, error)
        _defer(volume, str(error))
        return False
    forget(volume)
    _finish_source(volume)
    return True


def _defer(volume: "Volume", condition: str) -> None:
    if volume.intent is None:
        volume.intent = Intent(name=volume._ovo.display_name or volume._ovo.id)
    volume._ovo.status = AWAITING_DEPENDANTS
    volume._set_phase(Phase.DEFERRED, condition)
    volume.save()
    volume.backend._volume_removed(volume)


def _finish_source(volume: "Volume") -> None:
    """This volume may have been the last that its deferred source, or its source's volume, was kept for."""
    if volume._ovo.source_volid:
        finish_deferred(volume._ovo.source_volid)
    if volume._ovo.snapshot_id:
        snapshot = STATE.store.get(SnapshotRecord, volume._ovo.snapshot_id)
        if snapshot:
            finish_deferred(snapshot.volume_id)


def _is_deferred(record: VolumeRecord) -> bool:
    return record.intent is not None and record.intent.phase is Phase.DEFERRED
