"""Removing what a failed or interrupted try left in the storage, or holding it for a person."""

import logging
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from csi_plugin.controller import lookups, storage_objects
from csi_plugin.controller.context import Core
from csi_plugin.controller.error_table import cause
from csi_plugin.controller.lookups import Tried
from csi_plugin.controller.rpc import group_snapshots
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupSnapshotRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)

LOG = logging.getLogger(__name__)

_EVERYTHING = 1_000_000
"""Drivers page their lists themselves and want a limit."""


NOTHING_LEFT = "nothing is left of it; its id is not used again for a while"
"""Condition of a leftover whose record only keeps its generation from being taken again at once."""


class Outcome(Enum):
    """What became of a leftover."""

    ENDED = auto()
    """Gone, or held for a person: nothing more to do."""
    WAITING = auto()
    """Something is in the way now; worth looking again."""
    SETTLING = auto()
    """Nothing is there; the record goes after a while."""


@dataclass(frozen=True)
class Shown:
    """What the storage lists under a leftover's Cinder names."""

    unsafe: str = ""
    """Why it must not be touched; empty when nothing speaks against it."""


def undo(core: Core, record: Tried, *, window_is_over: bool, settled: bool) -> Outcome:
    """Remove a leftover's object and record if that is safe; otherwise hold it. The caller has marked it busy.

    A try that failed in this process (status ``error``) has ended for sure and its id was never given to anyone; one
    that a crash cut off may still be running in the array, or have been handed out if its record is an old backup's.
    ``settled``: the record was last written so long ago that the array must have come to rest.
    """
    if lookups.intent_of(record).condition == NOTHING_LEFT:
        return _gone(core, record, settled=settled)
    if reason := _referred_to(core, record):
        return _hold(core, record, f"held: {reason}")
    failed_here = record.status == "error"
    try:
        shown = _shown(core, record)
    except NotImplementedError:
        if failed_here and not window_is_over:
            # As Cinder deletes a volume that failed to be created.
            _delete(core, record)
            LOG.info("deleted the failed try %s %s without proof: its driver cannot list", record.KIND, record.id)
            return _gone(core, record, settled=settled)
        return _hold(core, record, "held: this driver cannot list what the storage has, so nobody knows what was made")
    if not shown:
        if not failed_here and not settled:
            return Outcome.SETTLING
        LOG.info("%s %s left nothing", record.KIND, record.id)
        return _gone(core, record, settled=settled)
    if window_is_over:
        return _hold(
            core, record, "held: the object is older than the undo window, or than the try, so it may be in use"
        )
    if unsafe := next((entry.unsafe for entry in shown if entry.unsafe), ""):
        return _hold(core, record, f"held: {unsafe}", outcome=Outcome.WAITING)
    return _remove_and_verify(core, record, settled=settled)


def _referred_to(core: Core, record: Tried) -> str:
    """What refers to the object; empty when nothing does."""
    store = core.store
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
                return "a volume was made from it"
        case GroupSnapshotRecord():
            for member in _members(core, record):
                if store.find(VolumeRecord, snapshot_id=member.id, limit=1):
                    return f"a volume was made from its snapshot {member.id}"
    return ""


def _shown(core: Core, record: Tried) -> list[Shown]:
    """What the storage lists under the record's names. Raises NotImplementedError for a driver that cannot list."""
    if isinstance(record, VolumeRecord):
        names = {storage_objects.volume(core, record).name_in_storage: record.id}
        entries = _listed(core, record.backend, "get_manageable_volumes")
    else:
        members = [record] if isinstance(record, SnapshotRecord) else _members(core, record)
        names = {storage_objects.snapshot(core, member).name_in_storage: member.id for member in members}
        entries = _listed(core, record.backend, "get_manageable_snapshots")
    return [_entry(entry) for entry in entries if (entry.get("reference") or {}).get("source-name") in names]


def _listed(core: Core, backend_name: str, method: str) -> list[dict[str, Any]]:
    """Everything in the storage. The driver is told of no known objects, so that it looks at each one's state."""
    from csi_plugin.storage.cinder import driver_lifecycle

    backend = storage_objects.backend(core, backend_name)
    if not driver_lifecycle.implements(backend.driver, method):
        raise NotImplementedError(method)
    with backend.slot():
        return list(getattr(backend.driver, method)([], None, _EVERYTHING, 0, ["size"], ["asc"]))


def _entry(entry: dict[str, Any]) -> Shown:
    if entry.get("safe_to_manage"):
        return Shown()
    return Shown(unsafe=str(entry.get("reason_not_safe") or "the storage says that it is not safe to touch"))


def _remove_and_verify(core: Core, record: Tried, *, settled: bool) -> Outcome:
    """Delete through the driver, then look again: many drivers "delete" silently what they were given no id for."""
    _delete(core, record)
    if _shown(core, record):
        return _hold(core, record, "held: the driver's delete did not remove it")
    LOG.info("removed what the try %s %s left", record.KIND, record.id)
    return _gone(core, record, settled=settled)


def _gone(core: Core, record: Tried, *, settled: bool) -> Outcome:
    """Forget a try that left nothing. Its record stays for a while if no later try keeps its generation from being
    used again: an array may still be busy with the object of that id."""
    intent = lookups.intent_of(record)
    match record:
        case SnapshotRecord():
            _look_again_at_source(core, record)
        case GroupSnapshotRecord():
            for member in _members(core, record):
                core.store.delete(member)
                _look_again_at_source(core, member)
    tries = core.store.find(type(record), csi_name=intent.name)
    if settled or lookups.next_generation(tries) > intent.generation + 1:
        core.store.delete(record)
        if isinstance(record, GroupSnapshotRecord):
            group_snapshots.remove_if_unused(core, record.group_id)
        return Outcome.ENDED
    return _hold(core, record, NOTHING_LEFT, outcome=Outcome.SETTLING)


def _look_again_at_source(core: Core, snapshot: SnapshotRecord) -> None:
    """The snapshot's volume may have been deleted by the CO and wait for this."""
    core.pending.add(VolumeRecord, snapshot.volume_id)


def _delete(core: Core, record: Tried) -> None:
    try:
        match record:
            case VolumeRecord():
                storage_objects.volume(core, record).delete()
            case SnapshotRecord():
                storage_objects.snapshot(core, record).delete()
            case GroupSnapshotRecord():
                storage_objects.group_snapshot(core, record).delete()
    except Exception as error:  # a driver can raise anything; the object stays a leftover
        if current := core.store.get(type(record), record.id):
            intent = lookups.intent_of(current)
            intent.phase, intent.condition = Phase.LEFTOVER, f"held: {cause(error)}"
            current.status = record.status
            core.store.update(current)
        raise


def _hold(core: Core, record: Tried, condition: str, *, outcome: Outcome = Outcome.ENDED) -> Outcome:
    """Keep the record, or put it back after a delete, and say why."""
    intent = lookups.intent_of(record)
    current = core.store.get(type(record), record.id)
    if current is not None and lookups.intent_of(current).condition == condition:
        return outcome
    intent.condition = condition
    if current is None:
        record.revision = 0
        core.store.create(record)
    else:
        record.revision = current.revision
        core.store.update(record)
    LOG.info("leftover %s %s (%s): %s", record.KIND, record.id, intent.name, condition)
    return outcome


def _members(core: Core, record: GroupSnapshotRecord) -> list[SnapshotRecord]:
    return core.store.find(SnapshotRecord, group_snapshot_id=record.id)
