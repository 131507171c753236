"""What the records of a backend say was under way when the last process ended: finished when the backend starts."""

import logging
from datetime import datetime

from csi_plugin.controller import cinder_groups, lookups, storage_objects
from csi_plugin.controller.attempts import KINDS, Attempt, intent_of, resource_of
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.recovery.failures import logged
from csi_plugin.persistence.records import (
    UNDER_WAY,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)

LOG = logging.getLogger(__name__)

DETACHING = ("detaching", "error_detaching")
"""Cinder's own objects know the second word alone."""


def replay(context: ControllerContext, backend_name: str, *, began: datetime) -> None:
    """Finish deletions and connections that were cut off, and queue what is to be reviewed.

    ``began``: when this process did; Cinder groups that are older may be what a crash left.
    """
    store = context.store
    ours: set[str] = set()
    for kind in KINDS:
        for record in lookups.iterate(store, kind):
            if record.backend == backend_name:
                ours.add(record.id)
                with logged(f"{kind.KIND} {record.id}"):
                    _replay_attempt(context, record)
    for group in lookups.iterate(store, GroupRecord):
        if group.backend == backend_name and cinder_groups.may_be_left_over(context, group, since=began):
            context.recovery_queue.add(GroupRecord, group.id)
    for connection in store.find(ConnectionRecord):
        if connection.volume_id in ours and connection.attach_status != "attached":
            with logged(f"connection of volume {connection.volume_id} to {connection.node_id}"):
                _finish_connection(context, connection, backend_name)


def _replay_attempt(context: ControllerContext, record: Attempt) -> None:
    match record.intent.phase if record.intent else None:
        case Phase.CREATING | Phase.ORPHAN | Phase.DEFERRED:
            context.recovery_queue.add(type(record), record.id)
        case Phase.DELETING:
            _finish_deletion(context, record)
        case _ if isinstance(record, VolumeRecord) and UNDER_WAY in record.admin_metadata:
            _clear_under_way(context, record.id)


def _clear_under_way(context: ControllerContext, volume_id: str) -> None:
    with context.hold(resource_of(VolumeRecord, volume_id)):
        current = context.store.get(VolumeRecord, volume_id)
        if current is not None and current.admin_metadata.pop(UNDER_WAY, ""):
            LOG.info("volume %s: what was under way has ended", volume_id)
            context.store.update(current)


def _finish_deletion(context: ControllerContext, record: Attempt) -> None:
    with context.hold(resource_of(type(record), record.id)):
        current = context.store.get(type(record), record.id)
        if current is None or intent_of(current).phase is not Phase.DELETING:
            return
        LOG.info("finishing the deletion of %s %s", record.KIND, record.id)
        match current:
            case VolumeRecord():
                storage_objects.volume(context, current).delete(deferred=True)
                context.recovery_queue.add(VolumeRecord, current.id)
            case SnapshotRecord():
                if current.group_snapshot_id and context.store.get(GroupSnapshotRecord, current.group_snapshot_id):
                    storage_objects.snapshot(context, current).defer("it goes with its group snapshot")
                else:
                    storage_objects.snapshot(context, current).delete(deferred=True)
                context.recovery_queue.add(SnapshotRecord, current.id)
                context.recovery_queue.add(VolumeRecord, current.volume_id)
            case GroupSnapshotRecord():
                storage_objects.group_snapshot(context, current).delete(deferred=True)
                context.recovery_queue.add(GroupSnapshotRecord, current.id)


def _finish_connection(context: ControllerContext, record: ConnectionRecord, backend_name: str) -> None:
    with context.hold(resource_of(VolumeRecord, record.volume_id)):
        current = context.store.get(ConnectionRecord, record.id)
        if current is None or current.attach_status == "attached":
            return
        LOG.info("finishing connection %s, which is %s", record.id, current.attach_status)
        if current.attach_status in DETACHING:
            storage_objects.connection(context, current, backend_name=backend_name).disconnect()
            return
        volume = context.store.get(VolumeRecord, current.volume_id)
        if volume is not None:
            storage_objects.volume(context, volume).connect(
                dict(current.connector or {}),
                id=current.id,
                node_id=current.node_id,
                attach_mode=current.attach_mode,
            )
