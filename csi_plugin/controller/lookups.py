"""Keyed reads of the records behind a request, and what the CO may see of them."""

from collections.abc import Iterator
from typing import TypeVar

from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupSnapshotRecord,
    NodeRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol.errors import not_found

Named = VolumeRecord | SnapshotRecord | GroupSnapshotRecord
"""Records of what a CO creates by name."""
T = TypeVar("T", bound=Named)
R = TypeVar("R", bound=Record)

_VISIBLE = (Phase.READY, Phase.DELETING)
_NOT_THERE = ("creating", "error", "deleted", "managing", "error_managing", "unmanaging")
_PAGE = 1000


def page_size(max_entries: int) -> int:
    """How many records to read at a time for a page: one more than it has tells whether another follows."""
    return min(max_entries + 1, _PAGE) if max_entries else _PAGE


def is_visible(record: Named) -> bool:
    """Whether the object exists for the CO: its creation was finished and its deletion was not."""
    if record.intent is None:  # created by the library, or adopted
        return record.status not in _NOT_THERE
    return record.intent.phase in _VISIBLE


def find_visible(store: RecordStore, kind: type[T], record_id: str) -> T | None:
    """The object of that id if the CO may see it."""
    record = store.get(kind, record_id) if is_valid_id(record_id) else None
    return record if record is not None and is_visible(record) else None


def get_volume(store: RecordStore, volume_id: str) -> VolumeRecord:
    """The volume of that id. Raises NOT_FOUND."""
    record = find_visible(store, VolumeRecord, volume_id)
    if record is None:
        raise not_found(f"volume_id: no volume has the id {volume_id!r}")
    return record


def get_snapshot(store: RecordStore, snapshot_id: str) -> SnapshotRecord:
    """The snapshot of that id. Raises NOT_FOUND."""
    record = find_visible(store, SnapshotRecord, snapshot_id)
    if record is None:
        raise not_found(f"snapshot_id: no snapshot has the id {snapshot_id!r}")
    return record


def get_node(store: RecordStore, node_id: str) -> NodeRecord:
    """The node of that CSI node_id. Raises NOT_FOUND."""
    record = store.get(NodeRecord, node_id) if is_valid_id(node_id) else None
    if record is None:
        raise not_found(f"node_id: node {node_id!r} is not registered")
    return record


def members_of(store: RecordStore, group_snapshot: GroupSnapshotRecord) -> list[SnapshotRecord]:
    """The snapshots of a group snapshot."""
    return store.find(SnapshotRecord, group_snapshot_id=group_snapshot.id)


def connections_of(store: RecordStore, volume_id: str, node_id: str | None = None) -> list[ConnectionRecord]:
    """Connections of a volume (to a node), whatever their state."""
    if not is_valid_id(volume_id) or not is_valid_id(node_id or ""):
        return []
    return store.find(ConnectionRecord, volume_id=volume_id, node_id=node_id or None)


def iterate(
    store: RecordStore, kind: type[R], *, after: str | None = None, page_size: int = _PAGE, **keys: str | None
) -> Iterator[R]:
    """All records of a kind in order of id, read ``page_size`` at a time."""
    while True:
        page = store.find(kind, after=after, limit=page_size, **keys)
        yield from page
        if len(page) < page_size:
            return
        after = page[-1].id
