"""Deletion of a volume: refused, done, or deferred until the last dependant that the backend keeps it for has gone."""

import logging
import threading
from datetime import UTC, datetime

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.base import RecordNotFound, RevisionConflict
from csi_plugin.persistence.records import ConnectionRecord, Intent, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.storage import codec
from csi_plugin.storage.cinder import driver_calls, exception
from csi_plugin.storage.resource import NamedResource, backend_class, in_slot

LOG = logging.getLogger(__name__)

AWAITING_DEPENDANTS = "deferred_deleting"
"""Status of a volume that is deleted for its owner while the backend still needs it."""

_finishing_lock = threading.Lock()
_finishing: dict[str, bool] = {}
"""Deferred volumes that a thread is looking at, each with whether it has to look again before it leaves."""


_DECISIONS = tuple(threading.Lock() for _ in range(64))
"""Volumes share them by the hash of their ids: nothing is held but a few statements on the records."""


class DeletableVolume(NamedResource):
    """The part of Volume that ends it."""

    @in_slot
    def delete(self, deferred: bool = False) -> None:
        """Delete the volume.

        One that has snapshots, or that the driver says is busy (clones need it), is refused with InvalidVolume or
        VolumeIsBusy. With ``deferred`` it counts as deleted at once instead, and the backend's volume goes with the
        last dependant. An attached one is always refused.
        """
        with self.deciding():
            previous = self._begin_deletion(deferred)
        if previous is None:
            # The snapshots it waits for may have gone just before that was recorded.
            self.finish_deferred()
            return
        try:
            self._call_driver(lambda driver: driver_calls.delete_volume(driver, self._ovo))
        except exception.VolumeIsBusy as error:
            if deferred:
                self._defer(str(error))
                self.finish_deferred()
                return
            self._was_not_deleted(previous)
            self._save_deletion(exception.VolumeNotFound(volume_id=self._ovo.id))
            raise
        except Exception:
            # Drivers raise anything; a repeat may succeed.
            self._ovo.status = "error_deleting"
            self._save_deletion(exception.VolumeNotFound(volume_id=self._ovo.id))
            raise
        failpoint("delete.driver_done")
        self._forget()
        failpoint("delete.saved")
        self._finish_source()

    def _begin_deletion(self, deferred: bool) -> str | None:
        """Record the deletion, and return the status before; None when it has to wait for snapshots."""
        if self._store.find(ConnectionRecord, volume_id=self._ovo.id, limit=1):
            raise exception.InvalidVolume(reason=f"volume {self._ovo.id} is connected; disconnect it first")
        if self._store.find(SnapshotRecord, volume_id=self._ovo.id, limit=1):
            if not deferred:
                raise exception.InvalidVolume(reason=f"volume {self._ovo.id} has snapshots; delete them first")
            self._defer("its snapshots need it")
            return None
        previous = str(self._ovo.status)
        self._ovo.status, self._ovo.terminated_at = "deleting", datetime.now(UTC)
        self._set_phase(Phase.DELETING)
        self._save_deletion(exception.VolumeNotFound(volume_id=self._ovo.id))
        failpoint("delete.recorded")
        if self._has_dependants():
            # Another process's, between the first look and the record. Who comes now sees the record and refuses.
            self._give_way(previous)
            raise exception.InvalidVolume(reason=f"volume {self._ovo.id} was snapshotted or connected meanwhile")
        return previous

    def deciding(self) -> threading.Lock:
        """Held while a deletion or a new dependant is recorded: of two threads, the second sees the first's record."""
        return _DECISIONS[hash(self._ovo.id) % len(_DECISIONS)]

    def _has_dependants(self) -> bool:
        kinds = (ConnectionRecord, SnapshotRecord)
        return any(self._store.find(kind, volume_id=self._ovo.id, limit=1) for kind in kinds)

    def _give_way(self, previous_status: str) -> None:
        """Undo the record of this deletion, unless another deletion has written its own, or has ended, since."""
        self._was_not_deleted(previous_status)
        try:
            self._note_stored(self._store.update(self.record))
        except (RecordNotFound, RevisionConflict):
            return
        codec.reset_changes(self._ovo)

    def _was_not_deleted(self, previous_status: str) -> None:
        self._ovo.status, self._ovo.terminated_at = previous_status, None
        self._set_phase(Phase.READY)

    def finish_deferred(self) -> bool:
        """Delete a deferred volume from the backend if nothing needs it any more; whether it is gone.

        Never raises for a driver's error: the record keeps it as its condition, and a later try may succeed. Safe to
        call from several threads of one process.
        """
        volume_id = self._ovo.id
        with _finishing_lock:
            busy = volume_id in _finishing
            _finishing[volume_id] = True
        if busy:
            # The other thread may have looked before our caller's dependant went: it has been told to look again.
            return False
        gone = False
        try:
            while _has_to_look(volume_id):
                gone = self._finish_unless_needed()
        except BaseException:
            with _finishing_lock:
                del _finishing[volume_id]
            raise
        return gone

    def _finish_unless_needed(self) -> bool:
        record = self._store.get(VolumeRecord, self._ovo.id)
        if record is None:
            return True
        if not is_deferred(record) or self._store.find(SnapshotRecord, volume_id=self._ovo.id, limit=1):
            return False
        return type(self).from_record(record)._finish()

    def _finish(self) -> bool:
        try:
            self._call_driver(lambda driver: driver_calls.delete_volume(driver, self._ovo))
        except Exception as error:  # noqa: BLE001
            # Whatever a driver raises, the volume stays deferred and is tried again when the next dependant goes.
            LOG.warning("volume %s, deleted by its owner, still stays on the backend: %s", self._ovo.id, error)
            self._defer(str(error))
            return False
        self._forget()
        self._finish_source()
        return True

    def _defer(self, condition: str) -> None:
        if self.intent is None:
            self.intent = Intent(name=self._ovo.display_name or self._ovo.id)
        self._ovo.status = AWAITING_DEPENDANTS
        self._set_phase(Phase.DEFERRED, condition)
        self.save()
        self.backend._volume_removed(self)

    def _forget(self) -> None:
        self._store.delete(self.record)
        self.backend._volume_removed(self)
        self._ovo.status = "deleted"
        self._ovo.deleted, self._ovo.deleted_at = True, datetime.now(UTC)

    def _finish_source(self) -> None:
        """This volume may have been the last that its deferred source, or its source's volume, was kept for."""
        if self._ovo.source_volid:
            finish_deferred_volume(self._ovo.source_volid)
        if self._ovo.snapshot_id:
            snapshot = self._store.get(SnapshotRecord, self._ovo.snapshot_id)
            if snapshot:
                finish_deferred_volume(snapshot.volume_id)


def _has_to_look(volume_id: str) -> bool:
    """Whether anyone asked for a look since the last one; if not, the thread that looks has left."""
    with _finishing_lock:
        asked = _finishing.pop(volume_id)
        if asked:
            _finishing[volume_id] = False
        return asked


def is_deferred(record: VolumeRecord) -> bool:
    return record.intent is not None and record.intent.phase is Phase.DEFERRED


def finish_deferred_volume(volume_id: str) -> None:
    """Delete a volume from its backend if it is deferred and nothing needs it any more."""
    from csi_plugin.storage.volume import Volume

    record = backend_class().store.get(VolumeRecord, volume_id)
    if record is not None and is_deferred(record):
        Volume.from_record(record).finish_deferred()
