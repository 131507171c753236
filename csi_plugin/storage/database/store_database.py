"""Cinder's database functions, answered from a RecordStore.

Each public method has the name, arguments and answer of the function of ``cinder.db.api`` that it stands in for.
Writes go through to the store at once and are compare-and-set on the record's revision, tried again when another
writer was faster. Errors are Cinder's (``VolumeNotFound`` and so on).
"""

from collections.abc import Callable, Iterable
from typing import Any

from cinder import exception
from cinder.db import models

from csi_plugin.persistence.records import (
    JSON,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage.database import rows
from csi_plugin.storage.database.attachments import AttachmentFunctions
from csi_plugin.storage.database.groups import ConsistencyGroupFunctions, GroupFunctions
from csi_plugin.storage.database.record_access import assign
from csi_plugin.storage.database.services import ImageCacheFunctions, InitiatorDataFunctions, ServiceFunctions
from csi_plugin.storage.database.snapshots import SnapshotFunctions
from csi_plugin.storage.database.volume_types import VolumeTypeFunctions
from csi_plugin.storage.database.volumes import VolumeFunctions, VolumeMetadataFunctions

_RECORD_OF: dict[Any, type[Record]] = {
    models.Volume: VolumeRecord,
    models.Snapshot: SnapshotRecord,
    models.VolumeAttachment: ConnectionRecord,
    models.Group: GroupRecord,
    models.GroupSnapshot: GroupSnapshotRecord,
}


class StoreDatabase(
    VolumeFunctions,
    VolumeMetadataFunctions,
    SnapshotFunctions,
    AttachmentFunctions,
    VolumeTypeFunctions,
    GroupFunctions,
    ConsistencyGroupFunctions,
    ServiceFunctions,
    InitiatorDataFunctions,
    ImageCacheFunctions,
):
    """The database functions for one store; here those that take a row's class. Thread-safe as the store is."""

    def get_by_id(self, context: Any, model: Any, id: str, *args: Any, **kwargs: Any) -> Any:
        return self._getter(model)(context, id, *args, **kwargs)

    def resource_exists(self, context: Any, model: Any, resource_id: str) -> bool:
        kind = _RECORD_OF.get(model)
        return kind is not None and self._store.get(kind, resource_id) is not None

    def conditional_update(
        self,
        context: Any,
        model: Any,
        values: JSON,
        expected_values: JSON,
        filters: Iterable[Any] | None = None,
        include_deleted: str = "no",
        project_only: bool = False,
        order: Any = None,
    ) -> bool:
        """Set values where the row has the expected ones. Conditions in SQL cannot be answered: ProgrammingError."""
        if filters:
            raise exception.ProgrammingError(reason="conditions in SQL need the persistence plugin 'db' or 'memory_db'")
        kind = _RECORD_OF[model]
        expected = dict(expected_values)
        record_id = expected.pop("id")

        def change(record: Any) -> bool:
            row = self._rows.of(record)
            if not all(_is_expected(row.get(key), value) for key, value in expected.items()):
                return False
            assign(record, rows.values_for(kind, values))
            return True

        try:
            return bool(self._records.change(kind, record_id, change)[1])
        except exception.NotFound:
            return False

    def _getter(self, model: Any) -> Callable[..., Any]:
        getters: dict[Any, Callable[..., Any]] = {
            models.Volume: self.volume_get,
            models.Snapshot: self.snapshot_get,
            models.VolumeAttachment: self.volume_attachment_get,
            models.VolumeType: self.volume_type_get,
            models.QualityOfServiceSpecs: self.qos_specs_get,
            models.Group: self.group_get,
            models.GroupType: self.group_type_get,
            models.GroupSnapshot: self.group_snapshot_get,
            models.ConsistencyGroup: self.consistencygroup_get,
            models.CGSnapshot: self.cgsnapshot_get,
            models.Service: self.service_get,
        }
        if model not in getters:
            raise exception.ProgrammingError(reason=f"Cinderbox keeps no {model.__name__}")
        return getters[model]


def _is_expected(value: Any, expected: Any) -> bool:
    """Cinder's conditions: a value, several of them, or its Not() around either."""
    negated = hasattr(expected, "value")
    wanted = expected.value if negated else expected
    is_several = isinstance(wanted, list | tuple | set | frozenset)
    return (value in wanted if is_several else value == wanted) is not negated
