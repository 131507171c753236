"""Deletion of a volume: refused, done, or deferred until the last dependant that the backend keeps it for has gone."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from csi_plugin.error_text import error_text
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.base import RecordNotFound, RevisionConflict
from csi_plugin.persistence.records import ConnectionRecord, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.process_locks import ProcessLock
from csi_plugin.storage import codec
from csi_plugin.storage.changed_storage import check_is_there
from csi_plugin.storage.cinder import driver_calls, exception
from csi_plugin.storage.deferred_deletion import defer, finish_deferred, finish_source, forget
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.volume_children import keep_loaded

if TYPE_CHECKING:
    from csi_plugin.storage.volume import Volume

_NEEDED_BY_SNAPSHOTS = "its snapshots need it"
_DEPENDANT_LOCKS = tuple(ProcessLock() for _ in range(64))
"""Volumes share them by the hash of their ids: nothing is held but a few statements on the records."""


def dependant_lock(volume_id: str) -> ProcessLock:
    """Held while a deletion or a new dependant is recorded: of two threads, the second sees the first's record."""
    return _DEPENDANT_LOCKS[hash(volume_id) % len(_DEPENDANT_LOCKS)]


def delete(volume: "Volume", *, deferred: bool) -> None:
    """``Volume.delete``; the caller holds a slot of the backend."""
    if volume._ovo.status == "deleted" and STATE.store.get(VolumeRecord, volume._ovo.id) is None:
        return
    keep_loaded(volume)
    check_is_there(volume.backend, volume.record)
    try:
        with dependant_lock(volume._ovo.id):
            previous = _begin(volume, deferred)
    except exception.VolumeNotFound:
        # Another object's deletion ended first.
        forget(volume)
        return
    if previous is None:
        # The snapshots it waits for may have gone just before that was recorded.
        finish_deferred(volume._ovo.id)
        return
    try:
        volume._call_driver(lambda driver: driver_calls.delete_volume(driver, volume._ovo))
    except exception.VolumeIsBusy as error:
        if deferred:
            defer(volume, str(error))
            finish_deferred(volume._ovo.id)
            return
        _restore_status(volume, previous)
        volume._save_deletion(exception.VolumeNotFound(volume_id=volume._ovo.id))
        raise
    except Exception as error:
        # Drivers raise anything; a repeat may succeed.
        volume._ovo.status = "error_deleting"
        volume._set_phase(Phase.DELETING, f"it could not be deleted: {error_text(error)}")
        volume._save_deletion(exception.VolumeNotFound(volume_id=volume._ovo.id))
        raise
    failpoint("delete.driver_done")
    forget(volume)
    failpoint("delete.saved")
    finish_source(volume)


def _begin(volume: "Volume", deferred: bool) -> str | None:
    """Record the deletion, and return the status before; None when it has to wait for snapshots."""
    volume_id = volume._ovo.id
    if STATE.store.find(ConnectionRecord, volume_id=volume_id, limit=1):
        raise exception.InvalidVolume(reason=f"volume {volume_id} is connected; disconnect it first")
    if STATE.store.find(SnapshotRecord, volume_id=volume_id, limit=1):
        if not deferred:
            raise exception.InvalidVolume(reason=f"volume {volume_id} has snapshots; delete them first")
        defer(volume, _NEEDED_BY_SNAPSHOTS)
        return None
    previous = str(volume._ovo.status)
    volume._ovo.status, volume._ovo.terminated_at = "deleting", datetime.now(UTC)
    volume._set_phase(Phase.DELETING)
    volume._save_deletion(exception.VolumeNotFound(volume_id=volume_id))
    failpoint("delete.recorded")
    # Another process's, between the first look and the record. Who comes now sees the record and refuses.
    if STATE.store.find(ConnectionRecord, volume_id=volume_id, limit=1):
        _withdraw(volume, previous)
        raise exception.InvalidVolume(reason=f"volume {volume_id} was connected meanwhile")
    if STATE.store.find(SnapshotRecord, volume_id=volume_id, limit=1):
        if not deferred:
            _withdraw(volume, previous)
            raise exception.InvalidVolume(reason=f"volume {volume_id} was snapshotted meanwhile")
        volume._ovo.terminated_at = None
        defer(volume, _NEEDED_BY_SNAPSHOTS)
        return None
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
