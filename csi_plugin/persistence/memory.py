"""The default plugin of the library: records in memory, gone with the process."""

import threading
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from typing import Any, TypeVar

from csi_plugin.persistence.base import PersistenceError, RecordExists, RecordNotFound, RevisionConflict
from csi_plugin.persistence.encoding import copy, utc_now
from csi_plugin.persistence.record_persistence import RecordPersistence
from csi_plugin.persistence.records import RECORD_TYPES, Record

R = TypeVar("R", bound=Record)


class MemoryPersistence(RecordPersistence):
    """Thread-safe. A stored record is never changed, only replaced, so reads copy it outside the lock."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._tables: dict[type[Record], _Table] = {kind: _Table(kind) for kind in RECORD_TYPES}
        self._closed = False

    def create(self, record: R) -> R:
        stored = copy(record)
        stored.revision = 1
        stored.created_at = stored.created_at or utc_now()
        with self._lock:
            table = self._table(type(record))
            if record.id in table.records:
                raise RecordExists(f"{record.KIND} {record.id} exists")
            table.put(stored)
        return copy(stored)

    def update(self, record: R) -> R:
        stored = copy(record)
        stored.revision = record.revision + 1
        stored.updated_at = utc_now()
        with self._lock:
            table = self._table(type(record))
            current = table.records.get(record.id)
            if current is None:
                raise RecordNotFound(f"{record.KIND} {record.id} is not there")
            if current.revision != record.revision:
                raise RevisionConflict(
                    f"{record.KIND} {record.id} has revision {current.revision}, not {record.revision}"
                )
            table.put(stored)
        return copy(stored)

    def delete(self, record: Record) -> None:
        with self._lock:
            self._table(type(record)).remove(record.id)

    def get(self, kind: type[R], record_id: str) -> R | None:
        with self._lock:
            found: Any = self._table(kind).records.get(record_id)
        return None if found is None else copy(found)

    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        wanted = self.wanted_keys(kind, keys)
        with self._lock:
            found: list[Any] = self._table(kind).find(wanted, after=after, limit=limit)
        return [copy(record) for record in found]

    def health(self) -> None:
        if self._closed:
            raise PersistenceError("the store was closed")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for table in self._tables.values():
                table.clear()

    def _table(self, kind: type[Record]) -> "_Table":
        self.health()
        return self._tables[kind]


class _Table:
    """Records of one kind, their ids in order, and for each value of a key the ids that have it, in order."""

    def __init__(self, kind: type[Record]) -> None:
        self._kind = kind
        self.clear()

    def clear(self) -> None:
        self.records: dict[str, Record] = {}
        self._ids: list[str] = []
        self._index: dict[str, defaultdict[str, list[str]]] = {name: defaultdict(list) for name in self._kind.KEYS}

    def put(self, record: Record) -> None:
        self.remove(record.id)
        self.records[record.id] = record
        insort(self._ids, record.id)
        for name, index in self._index.items():
            value = getattr(record, name)
            if value is not None:
                insort(index[value], record.id)

    def remove(self, record_id: str) -> None:
        record = self.records.pop(record_id, None)
        if record is None:
            return
        del self._ids[bisect_left(self._ids, record_id)]
        for name, index in self._index.items():
            value = getattr(record, name)
            if value is not None:
                ids = index[value]
                del ids[bisect_left(ids, record_id)]
                if not ids:
                    del index[value]

    def find(self, wanted: dict[str, str], *, after: str | None, limit: int | None) -> list[Record]:
        candidates = min(
            (self._index[name].get(value, []) for name, value in wanted.items()), key=len, default=self._ids
        )
        found: list[Record] = []
        for position in range(bisect_right(candidates, after) if after is not None else 0, len(candidates)):
            if limit is not None and len(found) >= limit:
                break
            record = self.records[candidates[position]]
            if all(getattr(record, name) == value for name, value in wanted.items()):
                found.append(record)
        return found
