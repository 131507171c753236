"""Orphans and what else a person may have to decide about: listed, and forgotten at a person's word."""

from dataclasses import dataclass
from datetime import datetime

from csi_plugin.controller import lookups
from csi_plugin.controller.attempts import KINDS, retire_id
from csi_plugin.controller.deleted_names import DeletedNames
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import GroupSnapshotRecord, Phase

NOTHING_LEFT = "nothing is left of it; its id is not used again for a while"
"""Condition of an orphan whose record only keeps its generation from being taken again at once."""


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """An attempt without success, or a deletion that waits."""

    kind: str
    """volume, snapshot or group_snapshot."""
    id: str
    name: str
    """What the CO called it."""
    backend: str
    phase: str
    """creating (interrupted, no repeat came), leftover (an orphan), or deferred (a deletion that waits)."""
    created: datetime | None
    ended_at: datetime | None
    condition: str


def list_orphans(store: RecordStore) -> list[Orphan]:
    """Interrupted and failed attempts and waiting deletions, for humans. Reads all records; no driver is called.

    Creations that run right now are among those of phase ``creating``.
    """
    return [
        Orphan(
            kind=record.KIND,
            id=record.id,
            name=record.intent.name,
            backend=record.backend,
            phase=record.intent.phase.value,
            created=record.created_at,
            ended_at=record.intent.ended_at,
            condition=record.intent.condition,
        )
        for kind in KINDS
        for record in lookups.iterate(store, kind)
        if record.intent is not None
        and record.intent.phase in (Phase.CREATING, Phase.ORPHAN, Phase.DEFERRED)
        and record.intent.condition != NOTHING_LEFT
    ]


def forget_orphan(store: RecordStore, orphan: Orphan) -> None:
    """Drop an orphan's record, of a group snapshot with its members'. Nothing in the storage is touched."""
    kind = next(kind for kind in KINDS if orphan.kind == kind.KIND)
    record = store.get(kind, orphan.id)
    if isinstance(record, GroupSnapshotRecord):
        for member in lookups.members_of(store, record):
            store.delete(member)
    if record is not None:
        retire_id(DeletedNames(store), record)
        store.delete(record)
