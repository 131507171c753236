"""Reading and changing the records that answer Cinder's database functions. Errors are Cinder's."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from cinder import exception

from csi_plugin.persistence.base import RecordNotFound, RecordStore, RevisionConflict
from csi_plugin.persistence.records import (
    JSON,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage.database import rows

R = TypeVar("R", bound=Record)

_NOT_FOUND: dict[type[Record], Callable[[str], Exception]] = {
    VolumeRecord: lambda found: exception.VolumeNotFound(volume_id=found),
    SnapshotRecord: lambda found: exception.SnapshotNotFound(snapshot_id=found),
    ConnectionRecord: lambda found: exception.VolumeAttachmentNotFound(filter=f"attachment_id = {found}"),
    GroupRecord: lambda found: exception.GroupNotFound(group_id=found),
    GroupSnapshotRecord: lambda found: exception.GroupSnapshotNotFound(group_snapshot_id=found),
}


class RecordAccess:
    """The records of one store. Thread-safe as the store is.

    Changes are compare-and-set on a record's revision, tried again when another writer was faster.
    """

    def __init__(self, store: RecordStore) -> None:
        self.store = store

    def get(self, kind: type[R], record_id: str) -> R:
        """A record. Raises Cinder's error for a missing one of its kind."""
        record = self.store.get(kind, record_id)
        if record is None:
            raise _NOT_FOUND[kind](record_id)
        return record

    def change(self, kind: type[R], record_id: str, change: Callable[[R], Any]) -> tuple[R, Any]:
        """Apply a change to the stored record; the new record and what ``change`` returned (False writes nothing)."""
        while True:
            record = self.get(kind, record_id)
            result = change(record)
            if result is False:
                return record, result
            try:
                return self.store.update(record), result
            except RevisionConflict:
                continue  # another writer was faster: apply the change to what it wrote
            except RecordNotFound as error:
                raise _NOT_FOUND[kind](record_id) from error

    def merge(
        self,
        kind: type[Record],
        record_id: str,
        name: str,
        values: Mapping[str, Any],
        *,
        delete: bool,
        keep: set[str] | None = None,
    ) -> dict[str, str]:
        """Add values to a dictionary of a record; ``delete`` drops the keys that are neither in them nor in keep."""

        def change(record: Any) -> None:
            current = getattr(record, name)
            if delete:
                kept = set(values) | (keep or set())
                current = {key: value for key, value in current.items() if key in kept}
            setattr(record, name, {**current, **{key: str(value) for key, value in values.items()}})

        record, _ = self.change(kind, record_id, change)
        return dict(getattr(record, name))

    def delete(self, kind: type[Record], record_id: str) -> None:
        """Delete a record, if it is there."""
        record = self.store.get(kind, record_id)
        if record is not None:
            self.store.delete(record)

    def volumes_of_host(self, host: str) -> list[VolumeRecord]:
        """The volumes of a host@backend with any pool, or of one with its pool."""
        backend = host.partition("#")[0].partition("@")[2] or None
        found = self.store.find(VolumeRecord, backend=backend)
        return [record for record in found if record.host == host or record.host.startswith(f"{host}#")]

    def volume_of_type(self, type_id: str) -> VolumeRecord:
        """A volume that has the type of this id. Raises VolumeTypeNotFound."""
        own = self.store.get(VolumeRecord, type_id)
        if own is not None and rows.type_id_of(own) == type_id:
            return own
        for record in self.store.find(VolumeRecord):
            if record.volume_type_id == type_id:
                return record
        raise exception.VolumeTypeNotFound(volume_type_id=type_id)


def assign(record: Record, values: Mapping[str, Any]) -> bool:
    """Set fields of a record; as a change for ``RecordAccess.change``."""
    for name, value in values.items():
        setattr(record, name, value)
    return True


def deleted(**values: Any) -> JSON:
    """What Cinder's functions answer that delete a row."""
    return {"deleted": True, "deleted_at": datetime.now(UTC), **values}
