"""Cleaning up an orphan: what a failed or interrupted attempt left in the storage is removed, or held for a person."""

import logging
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

from csi_plugin.controller import cinder_groups, lookups, storage_objects
from csi_plugin.controller.attempts import Attempt, intent_of, next_generation, retire_id
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.recovery.orphans import NOTHING_LEFT
from csi_plugin.error_text import error_text
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupSnapshotRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage.cinder import driver_calls

LOG = logging.getLogger(__name__)


class Outcome(Enum):
    """What became of an orphan."""

    ENDED = auto()
    """Gone, or held for a person: nothing more to do."""
    WAITING = auto()
    """Something is in the way now; worth another review."""
    SETTLING = auto()
    """Nothing is there; the record goes after a while."""


@dataclass(frozen=True)
class Listed:
    """What the storage lists under an orphan's Cinder names."""

    unsafe: str = ""
    """Why it must not be touched; empty when nothing speaks against it."""


def clean_up(context: ControllerContext, record: Attempt, *, window_is_over: bool, settled: bool) -> Outcome:
    """Remove an orphan's object and record if that is safe; otherwise hold it. The caller has marked it busy.

    An attempt that failed in this process (status ``error``) has ended for sure, and its id was never returned to
    anyone; one that a crash cut off may still be running in the array, or have been returned if its record is an old
    backup's.
    ``settled``: the record was last written so long ago that the array must have come to rest.
    """
    if intent_of(record).condition == NOTHING_LEFT:
        return _forget(context, record, settled=settled)
    if reason := _find_reference(context, record):
        return _hold(context, record, f"held: {reason}")
    failed_here = record.status == "error"
    try:
        listed = _find_listed(context, record)
    except NotImplementedError:
        if failed_here and not window_is_over:
            # As Cinder deletes a volume that failed to be created.
            _delete(context, record)
            LOG.info("orphan %s %s deleted unverified: the driver cannot list %ss", record.KIND, record.id, record.KIND)
            return _forget(context, record, settled=settled)
        if settled:
            _remove_inner_names(context, record)
        return _hold(
            context,
            record,
            "held: this driver cannot list what the storage has, so nobody knows what was created",
            outcome=Outcome.ENDED if settled else Outcome.SETTLING,
        )
    if not listed:
        if not failed_here and not settled:
            return Outcome.SETTLING
        LOG.info("%s %s left nothing", record.KIND, record.id)
        return _forget(context, record, settled=settled)
    if window_is_over:
        return _hold(
            context, record, "held: the object is older than the undo window, or than the attempt, so it may be in use"
        )
    if unsafe := next((entry.unsafe for entry in listed if entry.unsafe), ""):
        return _hold(context, record, f"held: {unsafe}", outcome=Outcome.WAITING)
    return _remove_and_verify(context, record, settled=settled)


def _find_reference(context: ControllerContext, record: Attempt) -> str:
    """What refers to the object; empty when nothing does."""
    store = context.store
    match record:
        case VolumeRecord():
            if store.find(ConnectionRecord, volume_id=record.id, limit=1):
                return "it has a connection"
            if store.find(SnapshotRecord, volume_id=record.id, limit=1):
                return "it has a snapshot"
            if store.find(VolumeRecord, source_volid=record.id, limit=1):
                return "a volume was cloned from it"
        case SnapshotRecord():
            if store.find(VolumeRecord, snapshot_id=record.id, limit=1):
                return "a volume was created from it"
        case GroupSnapshotRecord():
            for member in lookups.members_of(context.store, record):
                if store.find(VolumeRecord, snapshot_id=member.id, limit=1):
                    return f"a volume was created from its snapshot {member.id}"
    return ""


def _find_listed(context: ControllerContext, record: Attempt) -> list[Listed]:
    """What the storage lists under the record's names. Raises NotImplementedError for a driver that cannot list."""
    if isinstance(record, VolumeRecord):
        names = {storage_objects.volume(context, record).name_in_storage: record.id}
        entries = _list(context, record.backend, "volumes")
    else:
        members = [record] if isinstance(record, SnapshotRecord) else lookups.members_of(context.store, record)
        names = {storage_objects.snapshot(context, member).name_in_storage: member.id for member in members}
        entries = _list(context, record.backend, "snapshots")
    return [_entry(entry) for entry in entries if (entry.get("reference") or {}).get("source-name") in names]


def _list(context: ControllerContext, backend_name: str, kind: Literal["volumes", "snapshots"]) -> list[dict[str, Any]]:
    """Everything in the storage. No known objects are passed to the driver, so that it reads each one's state."""
    backend = storage_objects.backend(context, backend_name)
    with backend.slot():
        return driver_calls.list_manageable(backend.calls, kind, known=[])


def _entry(entry: dict[str, Any]) -> Listed:
    if entry.get("safe_to_manage"):
        return Listed()
    return Listed(unsafe=str(entry.get("reason_not_safe") or "the storage says that it is not safe to touch"))


def _remove_and_verify(context: ControllerContext, record: Attempt, *, settled: bool) -> Outcome:
    """Delete through the driver, then look again: many drivers "delete" silently what they were given no id for."""
    _delete(context, record)
    if _find_listed(context, record):
        return _hold(context, record, "held: the driver's delete did not remove it")
    LOG.info("removed what the attempt %s %s left", record.KIND, record.id)
    return _forget(context, record, settled=settled)


def _forget(context: ControllerContext, record: Attempt, *, settled: bool) -> Outcome:
    """Forget an attempt that left nothing. Its record stays for a while if no later attempt keeps its generation from
    being used again: an array may still be busy with the object of that id."""
    intent = intent_of(record)
    match record:
        case VolumeRecord():
            _remove_inner_names(context, record)
        case SnapshotRecord():
            _review_source(context, record)
        case GroupSnapshotRecord():
            for member in lookups.members_of(context.store, record):
                context.store.delete(member)
                _review_source(context, member)
    attempts = context.store.find(type(record), csi_name=intent.name)
    if settled or next_generation(attempts) > intent.generation + 1:
        if record.status != "error":  # an old backup's may be of an object that was returned
            retire_id(context.deleted_names, record)
        context.store.delete(record)
        if isinstance(record, GroupSnapshotRecord):
            cinder_groups.remove_if_unused(context, record.group_id)
        return Outcome.ENDED
    return _hold(context, record, NOTHING_LEFT, outcome=Outcome.SETTLING)


def _remove_inner_names(context: ControllerContext, record: Attempt) -> None:
    """What a clone took of its source goes, whatever became of the clone: the source could not be deleted otherwise."""
    if isinstance(record, VolumeRecord) and record.source_volid:
        storage_objects.volume(context, record).remove_inner_names()
        context.recovery_queue.add(VolumeRecord, record.source_volid)


def _review_source(context: ControllerContext, snapshot: SnapshotRecord) -> None:
    """The snapshot's volume may have been deleted by the CO and wait for this."""
    context.recovery_queue.add(VolumeRecord, snapshot.volume_id)


def _delete(context: ControllerContext, record: Attempt) -> None:
    try:
        match record:
            case VolumeRecord():
                storage_objects.volume(context, record).delete()
            case SnapshotRecord():
                storage_objects.snapshot(context, record).delete()
            case GroupSnapshotRecord():
                storage_objects.group_snapshot(context, record).delete()
    except Exception as error:  # a driver can raise anything; the object stays an orphan
        if current := context.store.get(type(record), record.id):
            intent = intent_of(current)
            intent.phase, intent.condition = Phase.ORPHAN, f"held: {error_text(error)}"
            current.status = record.status
            context.store.update(current)
        raise


def _hold(context: ControllerContext, record: Attempt, condition: str, *, outcome: Outcome = Outcome.ENDED) -> Outcome:
    """Keep the record, or put it back after a delete, and say why."""
    intent = intent_of(record)
    current = context.store.get(type(record), record.id)
    if current is not None and intent_of(current).condition == condition:
        return outcome
    intent.condition = condition
    if current is None:
        record.revision = 0
        context.store.create(record)
    else:
        record.revision = current.revision
        context.store.update(record)
    LOG.info("orphan %s %s (%s): %s", record.KIND, record.id, intent.name, condition)
    return outcome
