"""cinderlib's plugin interface of twelve methods, for the built-in plugins, which keep records."""

from typing import Any, Protocol, TypeVar

from csi_plugin.persistence.base import (
    DB,
    PersistenceDriverBase,
    RecordExists,
    RecordNotFound,
    RecordStore,
    RevisionConflict,
)
from csi_plugin.persistence.records import (
    OWN_KEYS,
    ConnectionRecord,
    KeyValueRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.persistence.sealing import Sealer, SealingStore

R = TypeVar("R", bound=Record)


class ObjectCodec(Protocol):
    """Turns the library's objects into records and back; ``csi_plugin.storage.codec`` is the one."""

    def to_record(self, obj: Any, /) -> Record: ...

    def to_object(self, record: Any, /) -> Any: ...

    def known_object(self, record: Any, /) -> Any: ...

    def note_stored(self, obj: Any, record: Any, /) -> None: ...


class BuiltinPlugin(PersistenceDriverBase, RecordStore):
    """Base of the built-in plugins: a RecordStore that has cinderlib's plugin interface too.

    The set_* methods are cinderlib's: they store the object whether or not it is there, whatever its
    revision. Code that must not overwrite another writer uses the object's save() or the record methods.
    """

    codec: ObjectCodec | None = None
    """Set by the library's setup; the record methods work without it."""
    sealer: Sealer | None = None
    """Set by SealingStore, so that the object methods read and write the same sealed fields."""

    def use_sealer(self, sealer: Sealer) -> None:
        self.sealer = sealer

    @property
    def db(self) -> Any:
        return DB(self)

    def get_volumes(
        self, volume_id: str | None = None, volume_name: str | None = None, backend_name: str | None = None
    ) -> list[Any]:
        return self._get_objects(VolumeRecord, volume_id, display_name=volume_name, backend=backend_name)

    def get_snapshots(
        self, snapshot_id: str | None = None, snapshot_name: str | None = None, volume_id: str | None = None
    ) -> list[Any]:
        return self._get_objects(SnapshotRecord, snapshot_id, display_name=snapshot_name, volume_id=volume_id)

    def get_connections(self, connection_id: str | None = None, volume_id: str | None = None) -> list[Any]:
        return self._get_objects(ConnectionRecord, connection_id, volume_id=volume_id)

    def get_key_values(self, key: str | None = None) -> list[Any]:
        found = self._get_objects(KeyValueRecord, key)
        # What Cinderbox keeps for itself is not the program's, which may delete all that there is.
        return [each for each in found if key is not None or not each.key.startswith(OWN_KEYS)]

    def set_volume(self, volume: Any) -> None:
        self._set_object(volume)
        super().set_volume(volume)

    def set_snapshot(self, snapshot: Any) -> None:
        self._set_object(snapshot)
        super().set_snapshot(snapshot)

    def set_connection(self, connection: Any) -> None:
        self._set_object(connection)
        super().set_connection(connection)

    def set_key_value(self, key_value: Any) -> None:
        self._set_object(key_value)
        super().set_key_value(key_value)

    def delete_volume(self, volume: Any) -> None:
        self.delete(self._codec.to_record(volume))
        super().delete_volume(volume)

    def delete_snapshot(self, snapshot: Any) -> None:
        self.delete(self._codec.to_record(snapshot))
        super().delete_snapshot(snapshot)

    def delete_connection(self, connection: Any) -> None:
        self.delete(self._codec.to_record(connection))
        super().delete_connection(connection)

    def delete_key_value(self, key_value: Any) -> None:
        """``key_value``: the object, or its key."""
        if isinstance(key_value, str):
            self.delete(KeyValueRecord(id=key_value))
            return
        self.delete(self._codec.to_record(key_value))
        super().delete_key_value(key_value)

    @property
    def _codec(self) -> ObjectCodec:
        if self.codec is None:
            raise RuntimeError("the object methods of a plugin need csi_plugin.setup() first")
        return self.codec

    @property
    def _clear(self) -> RecordStore:
        """This store as its users see it: secret fields in clear."""
        return self if self.sealer is None else SealingStore(self, self.sealer)

    def _get_objects(self, kind: type[R], record_id: str | None, **keys: str | None) -> list[Any]:
        # cinderlib takes an empty string for "any".
        wanted: dict[str, Any] = {name: value or None for name, value in keys.items()}
        if record_id:
            record = self._clear.get(kind, str(record_id))
            matches = record is not None and all(
                value is None or getattr(record, name) == value for name, value in wanted.items()
            )
            records: list[Any] = [record] if matches else []
        else:
            records = self.in_listing_order(self._clear.find(kind, **wanted))
        return [self._codec.known_object(record) for record in records]

    def _set_object(self, obj: Any) -> None:
        store, record = self._clear, self._codec.to_record(obj)
        while True:
            current = store.get(type(record), record.id)
            try:
                if current is None:
                    stored = store.create(record)
                else:
                    record.revision = current.revision
                    stored = current if current == record else store.update(record)
            except (RecordExists, RecordNotFound, RevisionConflict):
                continue  # another writer was between the two statements: look again
            self._codec.note_stored(obj, stored)
            return
