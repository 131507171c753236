"""Group and GroupSnapshot: volumes of one backend whose snapshots are taken together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import (
    GroupRecord,
    GroupSnapshotRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage import codec, serialization
from csi_plugin.storage.cinder import exception, objects
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.resource import Resource, backend_class, find_backend, in_slot
from csi_plugin.storage.snapshot import Snapshot
from csi_plugin.storage.volume import Volume
from csi_plugin.storage.volume_deletion import finish_deferred_volume

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend


class Group(Resource):
    """A Cinder volume group. All its volumes are on one backend."""

    OVO_CLASS: ClassVar[Any] = objects.Group
    RECORD_CLASS: ClassVar[type[Record]] = GroupRecord
    SIMPLE_JSON_IGNORE: ClassVar[tuple[str, ...]] = ("volumes", "group_snapshots")
    DEFAULT_FIELDS_VALUES: ClassVar[dict[str, Any]] = {"status": "creating"}

    def __init__(
        self,
        backend: "Backend | str",
        *,
        volumes: Sequence[Volume] = (),
        group_specs: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.group_specs = dict(group_specs or {})
        self._initial_volumes = list(volumes)
        if "__ovo" not in kwargs:
            found = find_backend(backend)
            kwargs["id"] = kwargs.get("id") or self.new_uuid()
            # A type of the group's own carries its specs, as with volumes.
            kwargs.setdefault("group_type_id", kwargs["id"])
            kwargs.setdefault("host", f"{found.host}#{found.pool_names[0]}")
            _check_same_backend(found, self._initial_volumes)
        super().__init__(backend, **kwargs)

    @classmethod
    def from_record(cls, record: GroupRecord) -> Self:
        group = cls(record.backend, group_specs=record.group_specs, __ovo=codec.group_to_ovo(record))
        group._note_stored(record)
        return group

    @property
    def record(self) -> GroupRecord:
        record = codec.group_to_record(self._ovo, group_specs=self.group_specs)
        record.revision = self.revision
        return record

    @classmethod
    def from_loaded(cls, backend: Any, ovo: Any, extras: serialization.Extras, *, save: bool) -> Self:
        group = cls(backend, __ovo=ovo)
        serialization.apply_extras(group, extras)
        if save:
            group.save()
        return group

    def loaded_relatives(self) -> list[Resource]:
        return []

    def extra_data(self) -> dict[str, Any]:
        return {"group_specs": self.group_specs} if self.group_specs else {}

    def take_extra_data(self, data: dict[str, Any]) -> None:
        self.group_specs = dict(data.get("group_specs", {}))

    @classmethod
    def get_by_id(cls, group_id: str) -> Self:
        """The group of that id. Raises GroupNotFound."""
        record = backend_class().store.get(GroupRecord, group_id)
        if record is None:
            raise exception.GroupNotFound(group_id=group_id)
        return cls.from_record(record)

    @property
    def volumes(self) -> list[Volume]:
        """The group's volumes, read anew at each access."""
        return [Volume.from_record(found) for found in self._store.find(VolumeRecord, group_id=self._ovo.id)]

    @property
    def snapshots(self) -> "list[GroupSnapshot]":
        """The group's snapshots, read anew at each access."""
        found = self._store.find(GroupSnapshotRecord, group_id=self._ovo.id)
        return [GroupSnapshot.from_record(record) for record in found]

    @in_slot
    def create(self) -> None:
        """Make the group on its backend and put the volumes into it that it was given."""
        self.save()
        try:
            update = self._call_driver(lambda driver: _if_implemented(driver.create_group, CONTEXT, self._ovo))
        except Exception:
            # Drivers raise anything; the record says what may be there.
            self._ovo.status = "error"
            self.save()
            raise
        self._ovo.status = "available"
        if update:
            self._ovo.update(update)
        self.save()
        if self._initial_volumes:
            self.update(add=self._initial_volumes)

    @in_slot
    def update(self, *, add: Sequence[Volume] = (), remove: Sequence[Volume] = ()) -> None:
        """Put volumes into the group and take others out."""
        _check_same_backend(self.backend, add)
        added, removed = [volume._ovo for volume in add], [volume._ovo for volume in remove]
        answer = self._call_driver(
            lambda driver: _if_implemented(
                driver.update_group, CONTEXT, self._ovo, add_volumes=added, remove_volumes=removed
            )
        )
        update, add_updates, remove_updates = answer or (None, None, None)
        if update:
            self._ovo.update(update)
            self.save()
        apply_updates([*add, *remove], [*(add_updates or ()), *(remove_updates or ())])
        for volume in add:
            volume._ovo.group_id = self._ovo.id
            volume.save()
        for volume in remove:
            volume._ovo.group_id = None
            volume.save()

    @in_slot
    def delete(self) -> None:
        """Delete the group; its volumes stay. Refused with InvalidGroup while it has snapshots."""
        if self._store.find(GroupSnapshotRecord, group_id=self._ovo.id, limit=1):
            raise exception.InvalidGroup(reason=f"group {self._ovo.id} has snapshots; delete them first")
        members = self.volumes
        if members:
            self.update(remove=members)
        self._call_driver(lambda driver: _if_implemented(driver.delete_group, CONTEXT, self._ovo, []))
        self._store.delete(self.record)
        self._ovo.status = "deleted"

    def create_snapshot(
        self, name: str = "", *, snapshots: Mapping[str, Mapping[str, Any]] | None = None, **kwargs: Any
    ) -> "GroupSnapshot":
        """Take a snapshot of all volumes together.

        ``snapshots``: further fields of each volume's snapshot (id, name, intent...), by volume id; ``kwargs``: fields
        of the group snapshot.
        """
        snapshot = GroupSnapshot(self, name=name, **kwargs)
        snapshot.create(snapshots or {})
        return snapshot


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
    def from_loaded(cls, backend: Any, ovo: Any, extras: serialization.Extras, *, save: bool) -> Self:
        snapshot = cls(None, backend=backend, __ovo=ovo)
        serialization.apply_extras(snapshot, extras)
        if save:
            snapshot.save()
        return snapshot

    def loaded_relatives(self) -> list[Resource]:
        return []

    @classmethod
    def get_by_id(cls, group_snapshot_id: str) -> Self:
        """The group snapshot of that id. Raises GroupSnapshotNotFound."""
        record = backend_class().store.get(GroupSnapshotRecord, group_snapshot_id)
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
        """The volumes' snapshots, read anew at each access."""
        found = self._store.find(SnapshotRecord, group_snapshot_id=self._ovo.id)
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
            # Drivers raise anything. What they may have made is known by these records.
            self._set_all(snapshots, "error", None)
            raise
        failpoint("group_snapshot.driver_done")
        for snapshot in snapshots:
            snapshot._ovo.status = "available"
        _merge_updates(snapshots, updates)
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
        self._store.delete(self.record)
        self._ovo.status = "deleted"
        for snapshot in snapshots:
            finish_deferred_volume(snapshot.volume_id)


def apply_updates(resources: Iterable[Any], updates: Iterable[Mapping[str, Any]] | None) -> None:
    """Store a driver's list of model updates, each with the id of its resource."""
    resources = list(resources)
    for resource in _merge_updates(resources, updates):
        resource.save()


def _merge_updates(resources: Iterable[Any], updates: Iterable[Mapping[str, Any]] | None) -> list[Any]:
    by_id = {resource._ovo.id: resource for resource in resources}
    changed = []
    for update in updates or ():
        resource = by_id[update["id"]]
        resource._ovo.update({key: value for key, value in update.items() if key != "id"})
        changed.append(resource)
    return changed


def _if_implemented(method: Any, *args: Any, **kwargs: Any) -> Any:
    """Cinder treats a driver without groups as one that has nothing to do for them."""
    try:
        return method(*args, **kwargs)
    except NotImplementedError:
        return None


def _check_same_backend(backend: Any, volumes: Iterable[Volume]) -> None:
    for volume in volumes:
        if volume.backend is not backend:
            raise exception.InvalidVolume(reason=f"volume {volume.id} is not on backend {backend.id}")
