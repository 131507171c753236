"""GroupSnapshot: snapshots of a group's volumes that were taken together."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import GroupSnapshotRecord, Phase, Record, SnapshotRecord
from csi_plugin.storage import codec, json_form
from csi_plugin.storage.cinder import exception, objects
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.group import Group
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.model_updates import merge_updates
from csi_plugin.storage.resource import Resource, in_slot
from csi_plugin.storage.snapshot import Snapshot
from csi_plugin.storage.volume_deletion import finish_deferred

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend


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
    def get_by_id(cls, group_snapshot_id: str) -> Self:
        """The group snapshot of that id. Raises GroupSnapshotNotFound."""
        record = STATE.store.get(GroupSnapshotRecord, group_snapshot_id)
        if record is None:
            raise exception.GroupSnapshotNotFound(group_snapshot_id=group_snapshot_id)
        return cls.from_record(record)

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
        found = STATE.store.find(SnapshotRecord, group_snapshot_id=self._ovo.id)
        return [Snapshot.from_record(record) for record in found]

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
            snapshot.save()
            snapshots.append(snapshot)
        failpoint("group_snapshot.recorded")
        try:
            update, updates = self._call_driver(
                lambda driver: driver.create_group_snapshot(CONTEXT, self._ovo, [found._ovo for found in snapshots])
            )
        except Exception:
            # Drivers raise anything. What they may have created is known by these records.
            self._set_all(snapshots, "error", None)
            raise
        failpoint("group_snapshot.driver_done")
        for snapshot in snapshots:
            snapshot._ovo.status = "available"
        merge_updates(snapshots, updates)
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
    def delete(self) -> None:
        """Delete the snapshots of all volumes. A failure keeps what was not deleted, and can be repeated."""
        _ = self.group
        snapshots = self.snapshots
        for snapshot in snapshots:
            _ = snapshot.volume
        self._set_all(snapshots, "deleting", Phase.DELETING)
        failpoint("group_snapshot_delete.recorded")
        try:
            _, updates = self._call_driver(
                lambda driver: driver.delete_group_snapshot(CONTEXT, self._ovo, [found._ovo for found in snapshots])
            )
        except Exception:
            # Drivers raise anything; a repeat may succeed.
            self._set_all(snapshots, "error_deleting", None)
            raise
        kept = {update["id"] for update in updates or () if str(update.get("status", "")).startswith("error")}
        for snapshot in snapshots:
            if snapshot.id not in kept:
                snapshot._forget()
        if kept:
            self._ovo.status = "error_deleting"
            self.save()
            raise exception.InvalidGroupSnapshot(
                reason=f"the driver could not delete snapshots {', '.join(sorted(kept))}"
            )
        STATE.store.delete(self.record)
        self._ovo.status = "deleted"
        for snapshot in snapshots:
            finish_deferred(snapshot.volume_id)
