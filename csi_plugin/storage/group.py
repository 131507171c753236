"""Group: volumes of one backend whose snapshots are taken together."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Self

from csi_plugin.persistence.records import GroupRecord, GroupSnapshotRecord, Record, VolumeRecord
from csi_plugin.storage import codec, json_form
from csi_plugin.storage.cinder import exception, objects
from csi_plugin.storage.cinder.driver_answers import take_update
from csi_plugin.storage.cinder.missing_objects import gone_group_is_done
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import STATE, class_of, find_backend, find_objects
from csi_plugin.storage.model_updates import apply_updates
from csi_plugin.storage.references import check_group
from csi_plugin.storage.resource import Resource, in_slot
from csi_plugin.storage.volume import Volume

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend
    from csi_plugin.storage.group_snapshot import GroupSnapshot


LOG = logging.getLogger(__name__)


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
    def from_loaded(cls, backend: Any, ovo: Any, extras: json_form.Extras, *, save: bool) -> Self:
        group = cls(backend, __ovo=ovo)
        json_form.apply_extras(group, extras)
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
    def not_found(cls, resource_id: str) -> Any:
        return exception.GroupNotFound(group_id=resource_id)

    @property
    def volumes(self) -> list[Volume]:
        """The group's volumes, read at each access."""
        return find_objects(VolumeRecord, group_id=self._ovo.id)

    @property
    def snapshots(self) -> "list[GroupSnapshot]":
        """The group's snapshots, read at each access."""
        return find_objects(GroupSnapshotRecord, group_id=self._ovo.id)

    @in_slot
    def create(self) -> None:
        """Create the group on its backend and put the volumes into it that it was given."""
        self.save()
        try:
            update = self._call_driver(lambda driver: _if_implemented(driver.create_group, CONTEXT, self._ovo))
            take_update(self._ovo, {"status": "available", **(update or {})})
        except Exception:
            # Drivers raise anything; the record says what may be there.
            self._ovo.status = "error"
            self.save()
            raise
        self.save()
        if self._initial_volumes:
            self.update(add=self._initial_volumes)

    @in_slot
    def recreate(self) -> None:
        """Recreate the group, with the volumes that it has by the records, where the storage has lost it."""
        check_group(self.record)
        members = self.volumes
        update = self._call_driver(lambda driver: _if_implemented(driver.create_group, CONTEXT, self._ovo))
        take_update(self._ovo, {"status": "available", **(update or {})})
        self.save()
        LOG.warning("group %s was lost by the storage, and is recreated", self._ovo.id)
        if members:
            self.update(add=members)

    @in_slot
    def update(self, *, add: Sequence[Volume] = (), remove: Sequence[Volume] = ()) -> None:
        """Put volumes into the group and take others out, also where the driver says that there is no such group."""
        check_group(self.record)
        _check_same_backend(self.backend, add)
        added, removed = [volume._ovo for volume in add], [volume._ovo for volume in remove]
        updates = None
        with nullcontext() if added else gone_group_is_done(self._ovo.id):
            updates = self._call_driver(
                lambda driver: _if_implemented(
                    driver.update_group, CONTEXT, self._ovo, add_volumes=added, remove_volumes=removed
                )
            )
        update, add_updates, remove_updates = updates or (None, None, None)
        if update:
            take_update(self._ovo, update)
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
        if STATE.store.find(GroupSnapshotRecord, group_id=self._ovo.id, limit=1):
            raise exception.InvalidGroup(reason=f"group {self._ovo.id} has snapshots; delete them first")
        members = self.volumes
        if members:
            self.update(remove=members)
        with gone_group_is_done(self._ovo.id):
            self._call_driver(lambda driver: _if_implemented(driver.delete_group, CONTEXT, self._ovo, []))
        STATE.store.delete(self.record)
        self._ovo.status = "deleted"

    def create_snapshot(
        self, name: str = "", *, snapshots: Mapping[str, Mapping[str, Any]] | None = None, **kwargs: Any
    ) -> "GroupSnapshot":
        """Take a snapshot of all volumes together.

        ``snapshots``: further fields of each volume's snapshot (id, name, intent...), by volume id; ``kwargs``: fields
        of the group snapshot.
        """
        snapshot: GroupSnapshot = class_of(GroupSnapshotRecord)(self, name=name, **kwargs)
        snapshot.create(snapshots or {})
        return snapshot


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
