"""From records to the library's objects, which act."""

from typing import Any

from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.persistence.encoding import copy
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage import codec
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.connection import Connection
from csi_plugin.storage.group import Group
from csi_plugin.storage.group_snapshot import GroupSnapshot
from csi_plugin.storage.snapshot import Snapshot
from csi_plugin.storage.volume import Volume


def backend(context: ControllerContext, name: str) -> Backend:
    """The backend of that name. Raises UNAVAILABLE, with the reason, while it is not ready or not configured."""
    with driver_errors("finding the backend"):
        return context.backends.get(name)


def volume(context: ControllerContext, record: VolumeRecord) -> Volume:
    found: Volume = _object(context, record, record.backend)
    return found


def snapshot(context: ControllerContext, record: SnapshotRecord) -> Snapshot:
    found: Snapshot = _object(context, record, record.backend)
    return found


def connection(context: ControllerContext, record: ConnectionRecord, *, backend_name: str) -> Connection:
    found: Connection = _object(context, record, backend_name)
    return found


def group(context: ControllerContext, record: GroupRecord) -> Group:
    found: Group = _object(context, record, record.backend)
    return found


def group_snapshot(context: ControllerContext, record: GroupSnapshotRecord) -> GroupSnapshot:
    found: GroupSnapshot = _object(context, record, record.backend)
    return found


def _object(context: ControllerContext, record: Any, backend_name: str) -> Any:
    backend(context, backend_name)
    return codec.to_object(copy(record))  # the object changes its intent, and the caller compares with its own
