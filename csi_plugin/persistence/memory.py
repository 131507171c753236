"""The default plugin of the library: records in memory, gone with the process."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, TypeVar

from csi_plugin.persistence.base import PersistenceError, RecordExists, RecordNotFound, RevisionConflict
from csi_plugin.persistence.builtin_plugin import BuiltinPlugin
from csi_plugin.persistence.encoding import copy, utc_now
from csi_plugin.persistence.record_index import RecordIndex
from csi_plugin.persistence.records import RECORD_TYPES, NodeRecord, Record, VolumeRecord
from csi_plugin.process_locks import ProcessLock

R = TypeVar("R", bound=Record)


class MemoryPersistence(BuiltinPlugin):
    """Thread-safe. A stored record is never changed, only replaced, so reads copy it outside the lock."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = ProcessLock()
        self._indexes: dict[type[Record], RecordIndex] = {kind: RecordIndex(kind) for kind in RECORD_TYPES}
        self._closed = False

    # cinderlib's plugin kept its objects in these dictionaries, and classes derived from it read them.

    @property
    def volumes(self) -> dict[str, Any]:
        return {each.id: each for each in self.get_volumes()}

    @property
    def snapshots(self) -> dict[str, Any]:
        return {each.id: each for each in self.get_snapshots()}

    @property
    def connections(self) -> dict[str, Any]:
        return {each.id: each for each in self.get_connections()}

    @property
    def key_values(self) -> dict[str, Any]:
        return {each.key: each for each in self.get_key_values()}

    def create(self, record: R) -> R:
        stored = copy(record)
        stored.revision = 1
        stored.created_at = stored.created_at or utc_now()
        with self._lock:
            index = self._index(type(record))
            if record.id in index.records:
                raise RecordExists(f"{record.KIND} {record.id} exists")
            index.put(stored)
        return copy(stored)

    def update(self, record: R) -> R:
        stored = copy(record)
        stored.revision = record.revision + 1
        stored.updated_at = utc_now()
        with self._lock:
            index = self._index(type(record))
            current = index.records.get(record.id)
            if current is None:
                raise RecordNotFound(f"{record.KIND} {record.id} does not exist")
            if current.revision != record.revision:
                raise RevisionConflict(
                    f"{record.KIND} {record.id} has revision {current.revision}, not {record.revision}"
                )
            index.put(stored)
        return copy(stored)

    def delete(self, record: Record) -> None:
        with self._lock:
            self._index(type(record)).remove(record.id)

    def get(self, kind: type[R], record_id: str) -> R | None:
        with self._lock:
            found: Any = self._index(kind).records.get(record_id)
        return None if found is None else copy(found)

    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        wanted = self.wanted_keys(kind, keys)
        with self._lock:
            found: list[Any] = self._index(kind).find(wanted, after=after, limit=limit)
        return [copy(record) for record in found]

    def in_listing_order(self, records: list[R]) -> list[R]:
        """As they were stored."""
        with self._lock:
            positions = {record.id: self._index(type(record)).position(record.id) for record in records}
        return sorted(records, key=lambda record: positions[record.id])

    def recorded_gib(self, *, backend: str) -> dict[str, int]:
        with self._lock:
            return self._index(VolumeRecord).recorded_gib(backend)

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        with self._lock:
            found = self._index(NodeRecord).nodes_named(names)
        return [copy(node) for node in found]

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        with self._lock:
            found = self._index(NodeRecord).nodes_silent_since(moment)
        return [copy(node) for node in found]

    def health(self) -> None:
        if self._closed:
            raise PersistenceError("the store was closed")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for index in self._indexes.values():
                index.clear()

    def _index(self, kind: type[Record]) -> RecordIndex:
        self.health()
        return self._indexes[kind]
