"""Orphans and what else a person may have to decide about: listed, and forgotten at a person's word."""

from dataclasses import dataclass
from datetime import datetime

from csi_plugin.controller import lookups
from csi_plugin.controller.attempts import KINDS, Attempt, retire_id
from csi_plugin.controller.deleted_names import DeletedNames
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import ADOPTED, GroupSnapshotRecord, Phase, VolumeRecord

NOTHING_LEFT = "nothing is left of it; its id is not used again for a while"
"""Condition of an orphan whose record only keeps its generation from being taken again at once."""
_ADOPTING = "managing"
"""Cinder's status of what is being adopted."""


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
    """creating (interrupted, no repeat came), leftover (an orphan), deferred (a deletion that waits), or managing (an
    adoption that was interrupted)."""
    created: datetime | None
    ended_at: datetime | None
    condition: str


def list_orphans(store: RecordStore) -> list[Orphan]:
    """Interrupted and failed attempts and waiting deletions, for humans. Reads all records; no driver is called.

    Creations and adoptions that run right now are among those of phases ``creating`` and ``managing``.
    """
    records = (record for kind in KINDS for record in lookups.iterate(store, kind))
    return [orphan for record in records if (orphan := _orphan(record)) is not None]


def _orphan(record: Attempt) -> Orphan | None:
    intent = record.intent
    if intent is not None:
        is_orphan = intent.phase in (Phase.CREATING, Phase.ORPHAN, Phase.DEFERRED) and intent.condition != NOTHING_LEFT
        name, phase, ended_at, condition = intent.name, intent.phase.value, intent.ended_at, intent.condition
    else:
        is_orphan = record.status == _ADOPTING
        name, phase, ended_at, condition = _name(record), _ADOPTING, None, _adoption(record)
    if not is_orphan:
        return None
    return Orphan(
        kind=record.KIND,
        id=record.id,
        name=name,
        backend=record.backend,
        phase=phase,
        created=record.created_at,
        ended_at=ended_at,
        condition=condition,
    )


def _name(record: Attempt) -> str:
    return (record.name if isinstance(record, GroupSnapshotRecord) else record.display_name) or ""


def _adoption(record: Attempt) -> str:
    reference = record.admin_metadata.get(ADOPTED, "") if isinstance(record, VolumeRecord) else ""
    return f"its adoption{f' of {reference}' * bool(reference)} runs or was interrupted: adopt it again, or forget it"


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
