"""Records of one kind in memory, found by id, by key and page by page without a scan."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Collection
from datetime import datetime
from itertools import count
from typing import Any

from csi_plugin.persistence import initiators
from csi_plugin.persistence.base import is_silent_since
from csi_plugin.persistence.records import NodeRecord, Record, VolumeRecord


class RecordIndex:
    """Records by id, their ids in order, and for each value of a key the ids that have it, in order.

    Not thread-safe: whoever holds one locks it. Records are handed out as they are, not copied.
    """

    def __init__(self, kind: type[Record]) -> None:
        self._kind = kind
        self.clear()

    def clear(self) -> None:
        self.records: dict[str, Record] = {}
        self._positions: dict[str, int] = {}
        self._count_stored = count()
        self._ids: list[str] = []
        self._by_key: dict[str, defaultdict[str, list[str]]] = {name: defaultdict(list) for name in self._kind.KEYS}
        self._recorded_gib: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._names: dict[str, set[str]] = {}
        self._by_name: defaultdict[str, set[str]] = defaultdict(set)
        """Of nodes: the names of each on the storage network, and the ids that have each."""

    def put(self, record: Record) -> None:
        """Add a record, or replace the one of its id."""
        position = self.position(record.id)
        self.remove(record.id)
        self.records[record.id] = record
        self._positions[record.id] = position
        insort(self._ids, record.id)
        self._count(record, 1)
        if isinstance(record, NodeRecord):
            connector: Any = record.connector  # a node writes its own record, and may have written anything
            self._names[record.id] = initiators.names(connector) if isinstance(connector, dict) else set()
            for name in self._names[record.id]:
                self._by_name[name].add(record.id)
        for name, index in self._by_key.items():
            value = getattr(record, name)
            if value is not None:
                insort(index[value], record.id)

    def remove(self, record_id: str) -> None:
        """Remove the record of that id; an absent one is no error."""
        record = self.records.pop(record_id, None)
        if record is None:
            return
        del self._positions[record_id]
        del self._ids[bisect_left(self._ids, record_id)]
        self._count(record, -1)
        for name in self._names.pop(record_id, ()):
            self._by_name[name].discard(record_id)
            if not self._by_name[name]:
                del self._by_name[name]
        for name, index in self._by_key.items():
            value = getattr(record, name)
            if value is not None:
                ids = index[value]
                del ids[bisect_left(ids, record_id)]
                if not ids:
                    del index[value]

    def position(self, record_id: str) -> int:
        """Sorts records by when they were added; for an id that is not there, the next position."""
        found = self._positions.get(record_id)
        return next(self._count_stored) if found is None else found

    def recorded_gib(self, backend: str) -> dict[str, int]:
        """What RecordStore.recorded_gib() returns."""
        return {pool: size for pool, size in self._recorded_gib.get(backend, {}).items() if size}

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        """What RecordStore.nodes_named() returns."""
        ids = {record_id for name in names for record_id in self._by_name.get(name, ())}
        return [found for record_id in sorted(ids) if isinstance(found := self.records[record_id], NodeRecord)]

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        """What RecordStore.nodes_silent_since() returns."""
        nodes = (self.records[record_id] for record_id in self._ids)
        return [node for node in nodes if isinstance(node, NodeRecord) and is_silent_since(node, moment)]

    def _count(self, record: Record, times: int) -> None:
        if isinstance(record, VolumeRecord):
            self._recorded_gib[record.backend][record.pool] += times * record.size

    def find(self, wanted: dict[str, str], *, after: str | None, limit: int | None) -> list[Record]:
        """What RecordStore.find() returns."""
        candidates = min(
            (self._by_key[name].get(value, []) for name, value in wanted.items()), key=len, default=self._ids
        )
        found: list[Record] = []
        for position in range(bisect_right(candidates, after) if after is not None else 0, len(candidates)):
            if limit is not None and len(found) >= limit:
                break
            record = self.records[candidates[position]]
            if all(getattr(record, name) == value for name, value in wanted.items()):
                found.append(record)
        return found
