"""Attempts at creating what the CO named, and giving up one: its name is free again, its orphan is for recovery."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.deleted_names import DeletedNames
from csi_plugin.controller.duplicates import may_be_duplicate
from csi_plugin.persistence.base import RecordNotFound
from csi_plugin.persistence.records import GroupSnapshotRecord, Intent, Phase, Record, SnapshotRecord, VolumeRecord

LOG = logging.getLogger(__name__)

Attempt = VolumeRecord | SnapshotRecord | GroupSnapshotRecord
"""Records of what a CO creates and deletes. Each attempt at a name has one of its own, with its own id."""
A = TypeVar("A", bound=Attempt)

KINDS: tuple[type[VolumeRecord | SnapshotRecord | GroupSnapshotRecord], ...] = (
    VolumeRecord,
    SnapshotRecord,
    GroupSnapshotRecord,
)
_NAMES: dict[type[Record], str] = {
    VolumeRecord: "volume",
    SnapshotRecord: "snapshot",
    GroupSnapshotRecord: "group-snapshot",
}

UNFINISHED_DELETED = "deleted by the CO before its creation was finished"


def attempt_id(context: ControllerContext, kind: type[Record], name: str, generation: int) -> str:
    """The id of the object that an attempt creates."""
    return context.identifiers.of_attempt(_NAMES[kind], name, generation)


def last_deleted_generation(context: ControllerContext, kind: type[Record], name: str) -> int:
    """0 for a name that was never deleted. To be read after the name's records."""
    return context.deleted_names.last_generation(_NAMES[kind], name)


def retire_id(names: DeletedNames, record: Attempt) -> None:
    """Before a record goes whose id the CO may know: the name's next object has another."""
    if record.intent is not None:
        names.remember(_NAMES[type(record)], record.intent.name, record.intent.generation)


def resource_of(kind: type[Record], record_id: str) -> str:
    """The resource that is marked for everything done to the object."""
    return f"{_NAMES[kind]}/{record_id}"


def name_resource_of(kind: type[Record], name: str) -> str:
    """The resource that is marked while an object of that name is created."""
    return f"{_NAMES[kind]}-name/{name}"


def intent_of(record: Attempt) -> Intent:
    """The intent of a record that was created for the CO."""
    if record.intent is None:
        raise RuntimeError(f"{record.KIND} {record.id} has no intent")
    return record.intent


def phase_of(record: Attempt) -> Phase:
    """The phase; what was not created for the CO is ready."""
    return record.intent.phase if record.intent else Phase.READY


def current_attempt(attempts: Sequence[A]) -> A | None:
    """The attempt that holds the name now, if any; orphans and waiting deletions do not."""
    live = [record for record in attempts if phase_of(record) in (Phase.CREATING, Phase.READY, Phase.DELETING)]
    return max(live, key=lambda record: intent_of(record).generation, default=None)


def next_generation(attempts: Sequence[A], *, deleted: int = 0) -> int:
    """``deleted``: the last generation of the name that was deleted."""
    return max((deleted, *(intent_of(record).generation for record in attempts))) + 1


def abandon_failed(context: ControllerContext, kind: type[A], record_id: str, error: BaseException) -> None:
    """After a driver's error in this process: the attempt has ended now, and nobody was given its id.

    Unless the storage says that the object exists: then an earlier attempt created it, of which old metadata, restored
    from a backup, know nothing, and it may have data.
    """
    record = context.store.get(kind, record_id)
    if record is not None and record.status == "error" and intent_of(record).phase is Phase.CREATING:
        _abandon(context, record, ended_at=None if may_be_duplicate(error) else datetime.now(UTC))


def abandon_interrupted(context: ControllerContext, record: Attempt, *, why: str = "") -> None:
    """For an attempt that a crash cut off. When it ended is not known, so its beginning counts: a record out of an old
    backup is old, however recently it was restored or written. One that this process has seen the end of is out of a
    backup for sure. ``why``: the CO itself wants it gone."""
    is_restored = record.id in context.returned_ids and not why
    _abandon(context, record, ended_at=None if is_restored else record.created_at, why=why)


def _abandon(context: ControllerContext, record: Attempt, *, ended_at: datetime | None, why: str = "") -> None:
    intent = intent_of(record)
    intent.phase = Phase.ORPHAN
    intent.ended_at = ended_at
    intent.condition = why or "the attempt ended without success; what it may have left is being looked for"
    try:
        context.store.update(record)
    except RecordNotFound:
        return  # nothing to look after
    LOG.warning("%s %s (%s) is an orphan now", record.KIND, record.id, intent.name)
    context.recovery_queue.add(type(record), record.id)
