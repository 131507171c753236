"""From records to the library's objects, which act."""

from typing import TYPE_CHECKING, Any

from csi_plugin.controller.context import Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.persistence.encoding import copy
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    SnapshotRecord,
    VolumeRecord,
)

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend
    from csi_plugin.storage.connection import Connection
    from csi_plugin.storage.group import Group, GroupSnapshot
    from csi_plugin.storage.snapshot import Snapshot
    from csi_plugin.storage.volume import Volume


def backend(core: Core, name: str) -> "Backend":
    """The backend of that name. Raises UNAVAILABLE, with the reason, while it is not ready or not configured."""
    with driver_errors("finding the backend"):
        return core.backends.get(name)


def volume(core: Core, record: VolumeRecord) -> "Volume":
    found: Volume = _object(core, record, record.backend)
    return found


def snapshot(core: Core, record: SnapshotRecord) -> "Snapshot":
    found: Snapshot = _object(core, record, record.backend)
    return found


def connection(core: Core, record: ConnectionRecord, *, backend_name: str) -> "Connection":
    found: Connection = _object(core, record, backend_name)
    return found


def group(core: Core, record: GroupRecord) -> "Group":
    found: Group = _object(core, record, record.backend)
    return found


def group_snapshot(core: Core, record: GroupSnapshotRecord) -> "GroupSnapshot":
    found: GroupSnapshot = _object(core, record, record.backend)
    return found


def _object(core: Core, record: Any, backend_name: str) -> Any:
    from csi_plugin.storage import codec

    backend(core, backend_name)
    return codec.to_object(copy(record))  # the object changes its intent, and the caller compares with its own
