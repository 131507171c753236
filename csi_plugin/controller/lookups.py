"""Keyed reads of the records behind a request, and what the CO may see of them."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupSnapshotRecord,
    Intent,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol.errors import not_found

Tried = VolumeRecord | SnapshotRecord | GroupSnapshotRecord
T = TypeVar("T", bound=Tried)
R = TypeVar("R", bound=Record)

_SHOWN = (Phase.READY, Phase.DELETING)
_LIVE = (Phase.CREATING, Phase.READY, Phase.DELETING)
_NOT_THERE = ("creating", "error", "deleted", "managing", "error_managing", "unmanaging")
_PAGE = 1000


def at_once(max_entries: int) -> int:
    """How many records to read at a time for a page: one more than it shows tells whether another follows."""
    return min(max_entries + 1, _PAGE) if max_entries else _PAGE


def is_shown(record: Tried) -> bool:
    """Whether the object exists for the CO: its creation was finished and its deletion was not."""
    if record.intent is None:  # made by the library, or adopted
        return record.status not in _NOT_THERE
    return record.intent.phase in _SHOWN


def possible_id(text: str) -> bool:
    """Whether an id could be one of ours; databases refuse some texts (NUL), and no such record exists."""
    return text.isprintable()


def find_shown(store: RecordStore, kind: type[T], record_id: str) -> T | None:
    """The object of that id if the CO may see it."""
    record = store.get(kind, record_id) if possible_id(record_id) else None
    return record if record is not None and is_shown(record) else None


def existing_volume(store: RecordStore, volume_id: str) -> VolumeRecord:
    """The volume of that id. Raises NOT_FOUND."""
    record = find_shown(store, VolumeRecord, volume_id)
    if record is None:
        raise not_found(f"volume_id: no volume has the id {volume_id!r}")
    return record


def existing_snapshot(store: RecordStore, snapshot_id: str) -> SnapshotRecord:
    """The snapshot of that id. Raises NOT_FOUND."""
    record = find_shown(store, SnapshotRecord, snapshot_id)
    if record is None:
        raise not_found(f"snapshot_id: no snapshot has the id {snapshot_id!r}")
    return record


def live_try(tries: Sequence[T]) -> T | None:
    """The try of a name that holds the name now, if any; leftovers and waiting deletions do not."""
    live = [record for record in tries if intent_of(record).phase in _LIVE]
    return max(live, key=lambda record: intent_of(record).generation, default=None)


def next_generation(tries: Sequence[T]) -> int:
    return max((intent_of(record).generation for record in tries), default=0) + 1


def intent_of(record: Tried) -> Intent:
    """The intent of a record that was made for the CO."""
    if record.intent is None:
        raise RuntimeError(f"{record.KIND} {record.id} has no intent")
    return record.intent


def connections_of(store: RecordStore, volume_id: str, node_id: str | None = None) -> list[ConnectionRecord]:
    """Connections of a volume (to a node), whatever their state."""
    if not possible_id(volume_id) or not possible_id(node_id or ""):
        return []
    return store.find(ConnectionRecord, volume_id=volume_id, node_id=node_id or None)


def each(
    store: RecordStore, kind: type[R], *, after: str | None = None, at_once: int = _PAGE, **keys: str | None
) -> Iterator[R]:
    """All records of a kind in order of id, read ``at_once`` at a time."""
    while True:
        page = store.find(kind, after=after, limit=at_once, **keys)
        yield from page
        if len(page) < at_once:
            return
        after = page[-1].id
