"""GroupSnapshot: snapshots of a group's volumes that were taken together."""

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import GroupSnapshotRecord, Intent, Phase, Record, SnapshotRecord, VolumeRecord
from csi_plugin.storage import codec, json_form
from csi_plugin.storage.cinder import driver_calls, exception, objects
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.deferred_deletion import finish_deferred, finish_deferred_snapshot, is_deferred
from csi_plugin.storage.group import Group
from csi_plugin.storage.library_state import STATE, find_objects
from csi_plugin.storage.model_updates import merge_updates
from csi_plugin.storage.references import check_group_snapshot
from csi_plugin.storage.resource import Resource, in_slot
from csi_plugin.storage.snapshot import Snapshot
from csi_plugin.storage.snapshot_order import time_after_others

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

LOG = logging.getLogger(__name__)


class GroupSnapshot(Resource):
    """Snapshots of a group's volumes that were taken together."""

    OVO_CLASS: ClassVar[Any] = objects.GroupSnapshot
    RECORD_CLASS: ClassVar[type[Record]] = GroupSnapshotRecord
    SIMPLE_JSON_IGNORE: ClassVar[tuple[str, ...]] = ("group", "snapshots")
    DEFAULT_FIELDS_VALUES: ClassVar[dict[str, Any]] = {"status": "creating"}

    def __init__(self, group: Group | None, *, backend: "Backend | str | None" = None, **kwargs: Any) -> None:
        self._group = group
        if group is not None and "__ovo" not in kwargs:
            kwargs |= {"group_id": group.id, "group_type_id": group.group_type_id, "group": group._ovo}
        super().__init__(group.backend if group is not None else backend, **kwargs)

    @classmethod
    def from_record(cls, record: GroupSnapshotRecord) -> Self:
        snapshot = cls(None, backend=record.backend, __ovo=codec.group_snapshot_to_ovo(record))
        snapshot.intent = record.intent
        snapshot._note_stored(record)
        return snapshot

    @property
    def record(self) -> GroupSnapshotRecord:
        record = codec.group_snapshot_to_record(self._ovo, backend=getattr(self.backend, "id", self.backend))
        record.intent, record.revision = self.intent, self.revision
        return record

    @classmethod
    def from_loaded(cls, backend: Any, ovo: Any, extras: json_form.Extras, *, save: bool) -> Self:
        snapshot = cls(None, backend=backend, __ovo=ovo)
        json_form.apply_extras(snapshot, extras)
        if save:
            snapshot.save()
        return snapshot

    def loaded_relatives(self) -> list[Resource]:
        return []

    @classmethod
    def not_found(cls, resource_id: str) -> Any:
        return exception.GroupSnapshotNotFound(group_snapshot_id=resource_id)

    @property
    def group(self) -> Group:
        if self._group is None:
            self._group = Group.get_by_id(self._ovo.group_id)
            self._ovo.group = self._group._ovo
            self._ovo.obj_reset_changes(("group",))
        return self._group

    @property
    def snapshots(self) -> list[Snapshot]:
        """The volumes' snapshots, read at each access."""
        return find_objects(SnapshotRecord, group_snapshot_id=self._ovo.id)

    @in_slot
    def create(self, fields: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the snapshots; ``fields`` by volume id. All intents are stored before the driver is called."""
        volumes = self.group.volumes
        if not volumes:
            raise exception.InvalidGroup(reason=f"group {self._ovo.group_id} has no volumes")
        self.save()
        snapshots = []
        for volume in volumes:
            snapshot = Snapshot(volume, group_snapshot_id=self._ovo.id, **fields.get(volume.id, {}))
            snapshot._ovo.group_snapshot = self._ovo
            snapshot._ovo.created_at = time_after_others(volume.id, snapshot._ovo.created_at)
            snapshot.save()
            snapshots.append(snapshot)
        failpoint("group_snapshot.recorded")
        try:
            update, updates = self._call_driver(
                lambda driver: driver.create_group_snapshot(CONTEXT, self._ovo, [found._ovo for found in snapshots])
            )
            failpoint("group_snapshot.driver_done")
            for snapshot in snapshots:
                snapshot._ovo.status = "available"
            merge_updates(snapshots, updates)
        except Exception:
            # Drivers raise anything. What they may have created is known by these records.
            self._set_all(snapshots, "error", None)
            raise
        failed = [found.id for found in snapshots if found.status != "available"]
        if failed or (update or {}).get("status") == "error":
            self._set_all(snapshots, "error", None)
            raise exception.InvalidGroupSnapshot(reason=f"the driver could not take snapshots {', '.join(failed)}")
        self._set_all(snapshots, "available", Phase.READY)
        failpoint("group_snapshot.saved")

    def _set_all(self, snapshots: Iterable[Snapshot], status: str, phase: Phase | None) -> None:
        for resource in (*snapshots, self):
            resource._ovo.status = status
            if phase is not None:
                resource._set_phase(phase)
            resource.save()

    @in_slot
    def delete(self, deferred: bool = False) -> None:
        """Delete the snapshots of all volumes. A failure keeps what was not deleted, and can be repeated.

        With ``deferred``, what clones need counts as deleted at once, and goes from the backend with the last of them.
        """
        waiting = self._delete(deferred=deferred)
        if waiting:
            # The clone that it waits for may have gone just before that was recorded.
            finish_deferred_snapshot(waiting[0])

    @in_slot
    def delete_member(self, snapshot_id: str) -> None:
        """Delete one of the snapshots for its owner, and the group snapshot with the last of them.

        Drivers that say so delete it alone. For others it is gone from the backend with the last one: what the storage
        holds may be one object for all of them.
        """
        check_group_snapshot(self.record)
        member = next((found for found in self.snapshots if found.id == snapshot_id), None)
        if member is None:
            return
        if self._has_independent_members():
            member.delete(deferred=True)
        else:
            member.defer("it goes with the last snapshot of its group snapshot")
        if all(is_deferred(found.record) for found in self.snapshots):
            self.delete(deferred=True)

    def finish_deferred(self) -> None:
        """Delete from the backend what is deferred of it and is not needed any more. As for Volume."""
        for snapshot in self.snapshots:
            if is_deferred(snapshot.record):
                finish_deferred_snapshot(snapshot.id)

    def _finish_deferred(self) -> bool:
        snapshots = self.snapshots
        if is_deferred(self.record) or all(is_deferred(found.record) for found in snapshots):
            try:
                return not self._delete(deferred=True)
            except Exception as error:  # noqa: BLE001
                # Whatever a driver raises, it stays deferred and is attempted again when the next clone goes.
                LOG.warning("group snapshot %s, deleted by its owner, still stays: %s", self._ovo.id, error)
                self._defer(self.snapshots, str(error))
                return False
        if self._has_independent_members():
            for found in snapshots:
                if is_deferred(found.record):
                    found._finish_deferred()
        return False

    def _has_independent_members(self) -> bool:
        return bool(getattr(self.backend.driver, "group_snapshot_members_are_independent", False))

    def _delete(self, *, deferred: bool) -> list[str]:
        """Delete all snapshots; the ids of those that have to wait, which nobody sees any more."""
        check_group_snapshot(self.record)
        _ = self.group
        snapshots = self.snapshots
        waiting = {found.id for found in snapshots if is_deferred(found.record)}
        for snapshot in snapshots:
            _ = snapshot.volume
        self._set_all(snapshots, "deleting", Phase.DELETING)
        failpoint("group_snapshot_delete.recorded")
        try:
            _, updates = self._call_driver(
                lambda driver: driver_calls.delete_group_snapshot(
                    driver, self._ovo, [found._ovo for found in snapshots]
                )
            )
        except Exception as error:
            if deferred and isinstance(error, exception.SnapshotIsBusy):
                self._defer(snapshots, str(error))
                return [found.id for found in snapshots]
            # Drivers raise anything; a repeat may succeed.
            self._set_all(snapshots, "error_deleting", None)
            raise
        kept = {update["id"] for update in updates or () if str(update.get("status", "")).startswith("error")}
        gone = [snapshot for snapshot in snapshots if snapshot.id not in kept]
        for snapshot in gone:
            snapshot._forget()
        if not kept:
            STATE.store.delete(self.record)
            self._ovo.status = "deleted"
        elif deferred and all(found in waiting or _has_clones(found) for found in kept):
            self._defer([found for found in snapshots if found.id in kept], "volumes that were made from it need it")
        else:
            self._ovo.status = "error_deleting"
            self.save()
            raise exception.InvalidGroupSnapshot(
                reason=f"the driver could not delete snapshots {', '.join(sorted(kept))}"
            )
        for snapshot in gone:
            finish_deferred(snapshot.volume_id)
        return sorted(kept)

    def _defer(self, snapshots: Iterable[Snapshot], condition: str) -> None:
        for snapshot in snapshots:
            snapshot.defer(condition)
        if self.intent is None:
            self.intent = Intent(name=self._ovo.id)
        self._ovo.status = "deleting"
        self._set_phase(Phase.DEFERRED, condition)
        self.save()


def _has_clones(snapshot_id: str) -> bool:
    return bool(STATE.store.find(VolumeRecord, snapshot_id=snapshot_id, limit=1))
