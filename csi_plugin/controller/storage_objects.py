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
from csi_plugin.persistence.sealing import check_opened
from csi_plugin.protocol.errors import failed_precondition
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


def configured_backend(context: ControllerContext, name: str, *, field: str) -> Backend:
    """The backend of what is to be copied or changed. FAILED_PRECONDITION where nobody has configured it: that is
    final, so the CO stops when nobody wants it any more; otherwise as backend()."""
    try:
        context.backends.check_known(name)
    except ValueError as error:
        raise failed_precondition(f"{field}: its {error}") from error
    return backend(context, name)


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
    with driver_errors("opening its record"):
        check_opened(record)
    return codec.to_object(copy(record))  # the object changes its intent, and the caller compares with its own
