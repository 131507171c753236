"""Snapshot: a volume's content at one moment."""

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from csi_plugin.error_text import error_text
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import Intent, Phase, Record, SnapshotRecord
from csi_plugin.storage import already_managed, codec, json_form
from csi_plugin.storage.cinder import driver_calls, exception, objects
from csi_plugin.storage.cinder.driver_answers import take_update
from csi_plugin.storage.deferred_deletion import finish_deferred, finish_deferred_snapshot
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.references import check_snapshot
from csi_plugin.storage.resource import NamedResource, in_slot
from csi_plugin.storage.snapshot_order import time_after_others
from csi_plugin.storage.volume import Volume
from csi_plugin.storage.volume_checks import check_can_be_copied, check_has_data, check_stored_data
from csi_plugin.storage.volume_children import SNAPSHOTS, VolumeChild, keep_loaded
from csi_plugin.storage.volume_deletion import dependant_lock

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

LOG = logging.getLogger(__name__)


class Snapshot(VolumeChild, NamedResource):
    """A snapshot of ``volume`` (None for a loaded one, whose volume is read on access)."""

    OVO_CLASS: ClassVar[Any] = objects.Snapshot
    RECORD_CLASS: ClassVar[type[Record]] = SnapshotRecord
    SIMPLE_JSON_IGNORE: ClassVar[tuple[str, ...]] = ("volume",)
    LAZY_PROPERTIES: ClassVar[tuple[str, ...]] = ("volume",)
    DEFAULT_FIELDS_VALUES: ClassVar[dict[str, Any]] = {"status": "creating"}

    def __init__(self, volume: Volume | None, *, backend: "Backend | str | None" = None, **kwargs: Any) -> None:
        self._volume = volume
        if "__ovo" in kwargs:
            ovo = kwargs["__ovo"]
            owner = volume.backend if volume is not None else backend or ovo.progress
            super().__init__(owner, **kwargs)
            if volume is None and ovo.obj_attr_is_set("volume") and ovo.volume:
                self._volume = Volume(self.backend, __ovo=ovo.volume)
            return
        if volume is None:
            raise ValueError("volume is required: a new snapshot is of a volume")
        if backend is not None and getattr(backend, "id", backend) != volume.backend.id:
            name = getattr(backend, "id", backend)
            raise ValueError(f"backend must be {volume.backend.id}, that of the volume, not {name}")
        kwargs["metadata"] = dict(kwargs.get("metadata") or {})
        kwargs.setdefault("user_id", volume.user_id)
        kwargs.setdefault("project_id", volume.project_id)
        kwargs |= {
            "volume_id": volume.id,
            "volume_size": volume.size,
            "volume_type_id": volume.volume_type_id,
            "volume": volume._ovo,
            "progress": volume.backend.id,
        }
        super().__init__(volume.backend, **kwargs)

    @classmethod
    def get_by_id(cls, snapshot_id: Any) -> Self:
        """The snapshot of that id, as it is stored. Raises SnapshotNotFound."""
        return super().get_by_id(snapshot_id)

    @classmethod
    def get_by_name(cls, snapshot_name: str) -> list[Self]:
        """The snapshots of that name; names need not be unique."""
        return super().get_by_name(snapshot_name)

    @classmethod
    def from_record(cls, record: SnapshotRecord) -> Self:
        snapshot = cls(None, backend=record.backend, __ovo=codec.snapshot_to_ovo(record))
        snapshot.intent = record.intent
        snapshot._note_stored(record)
        return snapshot

    @classmethod
    def from_volume_object(cls, volume: Volume, ovo: Any) -> Self:
        return cls(volume, __ovo=ovo)

    @property
    def record(self) -> SnapshotRecord:
        record = codec.snapshot_to_record(self._ovo)
        record.intent, record.revision = self.intent, self.revision
        return record

    @classmethod
    def from_loaded(cls, backend: Any, ovo: Any, extras: json_form.Extras, *, save: bool) -> Self:
        snapshot = cls(None, backend=backend, __ovo=ovo)
        json_form.apply_extras(snapshot, extras)
        if save:
            snapshot.save()
        return snapshot

    @classmethod
    def not_found(cls, resource_id: str) -> Any:
        return exception.SnapshotNotFound(snapshot_id=resource_id)

    @in_slot
    def create(self) -> None:
        """Take the snapshot. The intent is stored first; a failure leaves status ``error``.

        Raises InvalidSnapshot when it is taken already, InvalidVolume when the volume has no dependable data.
        """
        if self._ovo.status not in ("creating", "error"):
            raise exception.InvalidSnapshot(reason=f"snapshot {self._ovo.id} is {self._ovo.status}: it exists already")
        check_has_data(self.volume, "snapshotted")
        check_can_be_copied(self.volume, "snapshotted")
        with dependant_lock(self._ovo.volume_id):
            self._ovo.created_at = time_after_others(self._ovo.volume_id, self._ovo.created_at)
            self.save()
            failpoint("snapshot.recorded")
            try:
                # Looked up after this snapshot was stored, so that either this or a delete of the volume gives way.
                check_stored_data(self.volume, "snapshotted")
            except exception.InvalidVolume:
                STATE.store.delete(self.record)
                raise
        try:
            update = self._call_driver(lambda driver: driver_calls.create_snapshot(driver, self._ovo))
            failpoint("snapshot.driver_done")
            take_update(self._ovo, update)
        except Exception:
            # Drivers raise anything. What they may have created is known by this record.
            self._ovo.status = "error"
            self.save()
            raise
        self._ovo.status = "available"
        self._set_phase(Phase.READY)
        self.save()
        failpoint("snapshot.saved")

    @in_slot
    def manage(self, reference: dict[str, str]) -> None:
        """Adopt a snapshot that the storage has; see ``Volume.manage_existing_snapshot``."""
        already_managed.check_snapshot(reference)
        _ = self.volume
        self._ovo.volume_size = self._call_driver(
            lambda driver: driver.manage_existing_snapshot_get_size(self._ovo, reference)
        )
        self.save()
        try:
            update = self._call_driver(lambda driver: driver.manage_existing_snapshot(self._ovo, reference))
        except Exception:
            # Whatever the driver raised, the snapshot is not ours.
            STATE.store.delete(self.record)
            raise
        self._ovo.update({**(update or {}), "status": "available"})
        self._set_phase(Phase.READY)
        self.save()

    @in_slot
    def delete(self, deferred: bool = False) -> None:
        """Delete the snapshot; one that has been deleted is no error.

        One that clones need raises SnapshotIsBusy and stays as it is. With ``deferred`` it counts as deleted at once
        instead, and the backend's snapshot goes with the last of them.

        Raises InvalidVolume when the volume is connected and its driver works only on those that are not, and
        InvalidSnapshot when the records of the two contradict each other.
        """
        if self._ovo.status == "deleted" and STATE.store.get(SnapshotRecord, self._ovo.id) is None:
            return
        self._check_references()
        check_can_be_copied(self.volume, "merged with its snapshot")
        previous = self._ovo.status
        self._ovo.status = "deleting"
        self._set_phase(Phase.DELETING)
        try:
            self._save_deletion(exception.SnapshotNotFound(snapshot_id=self._ovo.id))
        except exception.SnapshotNotFound:
            # Another object's deletion ended first.
            self._forget()
            return
        failpoint("snapshot_delete.recorded")
        try:
            self._call_driver(lambda driver: driver_calls.delete_snapshot(driver, self._ovo))
        except exception.SnapshotIsBusy as error:
            if deferred:
                self.defer(str(error))
                # The clone that it waits for may have gone just before that was recorded.
                finish_deferred_snapshot(self._ovo.id)
                return
            self._ovo.status = previous
            self._set_phase(Phase.READY)
            self.save()
            raise
        except Exception as error:
            # Drivers raise anything; a repeat may succeed.
            self._ovo.status = "error_deleting"
            self._set_phase(Phase.DELETING, f"it could not be deleted: {error_text(error)}")
            self._save_deletion(exception.SnapshotNotFound(snapshot_id=self._ovo.id))
            raise
        failpoint("snapshot_delete.driver_done")
        self._forget()
        finish_deferred(self._ovo.volume_id)

    def defer(self, condition: str) -> None:
        """Record that the snapshot is deleted for its owner, and why the backend keeps it."""
        if self.intent is None:
            self.intent = Intent(name=self._ovo.id)
        self._ovo.status = "deleting"  # Cinder's snapshots have no word of their own for it
        self._set_phase(Phase.DEFERRED, condition)
        self.save()

    def finish_deferred(self) -> bool:
        """Delete a deferred snapshot from the backend if nothing needs it any more; whether it is gone.

        As ``Volume.finish_deferred``.
        """
        return finish_deferred_snapshot(self._ovo.id)

    def _finish_deferred(self) -> bool:
        try:
            check_snapshot(self.record)
            _ = self.volume
            self._call_driver(lambda driver: driver_calls.delete_snapshot(driver, self._ovo))
        except Exception as error:  # noqa: BLE001
            # Whatever a driver raises, the snapshot stays deferred and is attempted again when the next clone goes.
            LOG.warning("snapshot %s, deleted by its owner, still stays on the backend: %s", self._ovo.id, error)
            self.defer(str(error))
            return False
        self._forget()
        finish_deferred(self._ovo.volume_id)
        return True

    @in_slot
    def unmanage(self) -> None:
        """Forget the snapshot and leave it on the backend."""
        self._check_references()
        _ = self.volume
        was, self._ovo.status = self._ovo.status, "unmanaging"
        self._save_deletion(exception.SnapshotNotFound(snapshot_id=self._ovo.id))
        try:
            self._call_driver(lambda driver: driver.unmanage_snapshot(self._ovo))
        except Exception:
            # Drivers raise anything; the snapshot stays ours.
            self._ovo.status = was
            self.save()
            raise
        self._forget()

    def _check_references(self) -> None:
        """check_snapshot(), where the volume that was loaded with the snapshot counts if the store has none."""
        if self._volume is not None:
            keep_loaded(self._volume)
        check_snapshot(self.record)

    def _forget(self) -> None:
        STATE.store.delete(self.record)
        self._ovo.status = "deleted"
        self._ovo.deleted, self._ovo.deleted_at = True, datetime.now(UTC)
        if self._volume is not None:
            SNAPSHOTS.remove(self._volume, self._ovo.id)

    def create_volume(self, **new_vol_params: Any) -> Volume:
        """Create a volume of the snapshot's content. ``size`` may be larger; other attributes as for Volume."""
        if self._ovo.status != "available":
            raise exception.InvalidSnapshot(
                reason=f"snapshot {self._ovo.id} is {self._ovo.status}; it must be available"
            )
        self._check_references()
        new_vol_params.setdefault("size", self._ovo.volume_size)
        volume = Volume(self.volume, snapshot_id=self._ovo.id, **new_vol_params)
        if volume.size < self._ovo.volume_size:
            raise exception.InvalidInput(
                reason=f"size must be at least {self._ovo.volume_size} GiB, the size of the snapshot"
            )
        volume._create(lambda driver: driver_calls.restore_snapshot(driver, volume._ovo, self._ovo))
        return volume
