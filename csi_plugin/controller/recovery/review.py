"""One object of the recovery queue is reviewed: an orphan, an interrupted creation, a waiting deletion, a group; and
connections to nodes that have changed."""

import logging
from datetime import UTC, datetime
from typing import Any

from csi_plugin.controller import changed_connectors, cinder_groups, storage_objects
from csi_plugin.controller.attempts import Attempt, intent_of, name_resource_of, phase_of, resource_of
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.recovery.clean_up import Outcome, clean_up
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)

LOG = logging.getLogger(__name__)

_SKEW_SECONDS = 60
"""By how much the clocks of two controllers' hosts may differ."""


def review(context: ControllerContext, kind: type[Record], record_id: str) -> None:
    """Do what can be done for an object now. It stays in the queue while something may still be done."""
    if kind is GroupRecord:
        cinder_groups.remove_if_unused(context, record_id)
        context.recovery_queue.discard(kind, record_id)
        return
    if kind is ConnectionRecord:
        changed_connectors.renew(context, record_id)
        context.recovery_queue.discard(kind, record_id)
        return
    record: Any = context.store.get(kind, record_id)
    if record is None or record.intent is None:
        context.recovery_queue.discard(kind, record_id)
        return
    match record.intent.phase:
        case Phase.CREATING:
            _report_interrupted(context, record)
        case Phase.ORPHAN:
            _clean_up(context, record)
        case Phase.DEFERRED:
            _finish_deferred(context, record)
        case _:
            context.recovery_queue.discard(kind, record_id)


def _report_interrupted(context: ControllerContext, record: Attempt) -> None:
    """Tell people about an attempt that no repeat came for. It keeps its name, and is not touched: its object may be
    what a volume of the CO really is, if this record came out of a backup."""
    intent = intent_of(record)
    with context.hold(name_resource_of(type(record), intent.name)):
        if _is_window_over(context, record.created_at) and not intent.condition:
            intent.condition = "its creation was interrupted and not asked for again; a person has to decide"
            context.store.update(record)
            LOG.warning("%s %s (%s): %s", record.KIND, record.id, intent.name, intent.condition)
            context.recovery_queue.discard(type(record), record.id)


def _clean_up(context: ControllerContext, record: Attempt) -> None:
    resource = resource_of(type(record), record.id)
    with context.hold(resource), context.source_locks.changing(resource):
        current = context.store.get(type(record), record.id)
        if current is None or intent_of(current).phase is not Phase.ORPHAN:
            return
        settle_seconds = context.configuration.settle_seconds
        outcome = clean_up(
            context,
            current,
            window_is_over=_is_window_over(context, intent_of(current).ended_at),
            settled=_age(current.updated_at) > settle_seconds,
        )
        match outcome:
            case Outcome.ENDED:
                context.recovery_queue.discard(type(record), record.id)
            case Outcome.SETTLING:
                context.recovery_queue.add(type(record), record.id, after_seconds=settle_seconds)


def _finish_deferred(context: ControllerContext, record: Attempt) -> None:
    with context.hold(resource_of(type(record), record.id)):
        match context.store.get(type(record), record.id):
            case VolumeRecord() as volume if phase_of(volume) is Phase.DEFERRED:
                storage_objects.volume(context, volume).finish_deferred()
            case SnapshotRecord() as snapshot if phase_of(snapshot) is Phase.DEFERRED:
                storage_objects.snapshot(context, snapshot).finish_deferred()
            case GroupSnapshotRecord() as group_snapshot if phase_of(group_snapshot) is Phase.DEFERRED:
                storage_objects.group_snapshot(context, group_snapshot).finish_deferred()
                cinder_groups.remove_if_unused(context, group_snapshot.group_id)


def _is_window_over(context: ControllerContext, ended_at: datetime | None) -> bool:
    # A time that lies ahead was written before the clock was put back; how long ago that was is not known.
    return not -_SKEW_SECONDS < _age(ended_at) <= context.configuration.undo_window_seconds


def _age(moment: datetime | None) -> float:
    """Seconds since then; without end for a moment that nobody recorded."""
    return (datetime.now(UTC) - moment).total_seconds() if moment else float("inf")
