"""Cinder's database functions, answered from a RecordStore.

Each public method has the name, arguments and answer of the function of ``cinder.db.api`` that it stands in for.
Writes go through to the store at once and are compare-and-set on the record's revision, tried again when another
writer was faster. Errors are Cinder's (``VolumeNotFound`` and so on).
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from cinder import exception
from cinder.db import models

from csi_plugin.persistence.base import RecordExists, RecordNotFound, RecordStore, RevisionConflict
from csi_plugin.persistence.records import (
    JSON,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage.database import rows
from csi_plugin.storage.database.queries import matches, page
from csi_plugin.storage.database.rows import Row

R = TypeVar("R", bound=Record)

DEFAULT_TYPE_NAME = "__DEFAULT__"
DEFAULT_TYPE_ID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "default-volume-type.cinderbox.io"))
"""The type without specs that Cinder gives to volumes that drivers create for themselves."""

_INITIATOR_DATA = "cinderbox/initiator-data/"
_VOLUME_STATUSES = {"attached": "in-use", "detached": "available"}

_NOT_FOUND: dict[type[Record], Callable[[str], Exception]] = {
    VolumeRecord: lambda found: exception.VolumeNotFound(volume_id=found),
    SnapshotRecord: lambda found: exception.SnapshotNotFound(snapshot_id=found),
    ConnectionRecord: lambda found: exception.VolumeAttachmentNotFound(filter=f"attachment_id = {found}"),
    GroupRecord: lambda found: exception.GroupNotFound(group_id=found),
    GroupSnapshotRecord: lambda found: exception.GroupSnapshotNotFound(group_snapshot_id=found),
}


class StoreDatabase:
    """The database functions for one store. Thread-safe as the store is."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    # Any kind, by the class of its table.

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
            row = self._row(record)
            if not all(_is_expected(row.get(key), value) for key, value in expected.items()):
                return False
            _assign(record, rows.values_for(kind, values))
            return True

        try:
            return bool(self._change(kind, record_id, change)[1])
        except exception.NotFound:
            return False

    # Volumes.

    def volume_get(self, context: Any, volume_id: str) -> Row:
        return self._volume_row(self._get(VolumeRecord, volume_id))

    def volume_create(self, context: Any, values: JSON) -> Row:
        fields = {"shared_targets": True, **rows.values_for(VolumeRecord, values)}
        record = VolumeRecord(id=values.get("id") or str(uuid.uuid4()), **fields)
        if record.volume_type_id == DEFAULT_TYPE_ID:
            record.volume_type_id = None
        elif record.volume_type_id and record.volume_type_id != record.id:
            self._copy_specs(record, record.volume_type_id)
        return self._volume_row(self._store.create(record))

    def volume_update(self, context: Any, volume_id: str, values: JSON) -> None:
        fields = rows.values_for(VolumeRecord, values)
        if fields.get("volume_type_id") == DEFAULT_TYPE_ID:
            fields["volume_type_id"] = None
        self._change(VolumeRecord, volume_id, lambda record: _assign(record, fields))

    def volumes_update(self, context: Any, values_list: Iterable[JSON]) -> None:
        for values in values_list:
            self.volume_update(context, values["id"], {key: values[key] for key in values if key != "id"})

    def volume_destroy(self, context: Any, volume_id: str) -> JSON:
        record = self._store.get(VolumeRecord, volume_id)
        if record is not None:
            self._store.delete(record)
        return _deleted(status="deleted", migration_status=None)

    def volume_get_all(
        self,
        context: Any,
        marker: str | None = None,
        limit: int | None = None,
        sort_keys: list[str] | None = None,
        sort_dirs: list[str] | None = None,
        filters: JSON | None = None,
        offset: int | None = None,
    ) -> list[Row]:
        found = self._volume_rows(self._store.find(VolumeRecord), filters)
        return page(found, marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset)

    def volume_get_all_by_host(self, context: Any, host: str | None, filters: JSON | None = None) -> list[Row]:
        return self._volume_rows(self._volumes_of_host(host), filters) if host else []

    def volume_get_all_by_group(self, context: Any, group_id: str, filters: JSON | None = None) -> list[Row]:
        """By consistency group, which is what Cinder had before groups: drivers still ask for one by that name."""
        records = [found for found in self._store.find(VolumeRecord) if found.consistencygroup_id == group_id]
        return self._volume_rows(records, filters)

    def volume_get_all_by_generic_group(self, context: Any, group_id: str, filters: JSON | None = None) -> list[Row]:
        return self._volume_rows(self._store.find(VolumeRecord, group_id=group_id), filters)

    def volume_get_all_by_project(
        self,
        context: Any,
        project_id: str,
        marker: str | None,
        limit: int | None,
        sort_keys: list[str] | None = None,
        sort_dirs: list[str] | None = None,
        filters: JSON | None = None,
        offset: int | None = None,
    ) -> list[Row]:
        wanted = {**(filters or {}), "project_id": project_id}
        return self.volume_get_all(context, marker, limit, sort_keys, sort_dirs, wanted, offset)

    def volume_has_snapshots(self, volume_id: str) -> bool:
        return bool(self._store.find(SnapshotRecord, volume_id=volume_id, limit=1))

    def get_volume_summary(
        self, context: Any, project_only: bool, filters: JSON | None = None
    ) -> tuple[int, int, dict[str, list[str]]]:
        """Number of volumes, their GiB, and the values of each metadata key."""
        found = self._volume_rows(self._store.find(VolumeRecord), filters)
        metadata: dict[str, list[str]] = {}
        for row in found:
            for entry in row["volume_metadata"]:
                values = metadata.setdefault(entry["key"], [])
                if entry["value"] not in values:
                    values.append(entry["value"])
        return len(found), sum(row["size"] or 0 for row in found), metadata

    # Their metadata.

    def volume_metadata_get(self, context: Any, volume_id: str) -> dict[str, str]:
        return dict(self._get(VolumeRecord, volume_id).metadata)

    def volume_metadata_update(
        self, context: Any, volume_id: str, metadata: JSON, delete: bool, meta_type: Any = None
    ) -> dict[str, str]:
        return self._merge(VolumeRecord, volume_id, "metadata", metadata, delete=delete)

    def volume_metadata_delete(self, context: Any, volume_id: str, key: str, meta_type: Any = None) -> None:
        self._change(VolumeRecord, volume_id, lambda record: record.metadata.pop(key, None))

    def volume_admin_metadata_get(self, context: Any, volume_id: str) -> dict[str, str]:
        return dict(self._get(VolumeRecord, volume_id).admin_metadata)

    def volume_admin_metadata_update(
        self, context: Any, volume_id: str, metadata: JSON, delete: bool, add: bool = True, update: bool = True
    ) -> dict[str, str]:
        current = self._get(VolumeRecord, volume_id).admin_metadata
        wanted = {key: value for key, value in metadata.items() if (update if key in current else add)}
        return self._merge(VolumeRecord, volume_id, "admin_metadata", wanted, delete=delete, keep=set(metadata))

    def volume_admin_metadata_delete(self, context: Any, volume_id: str, key: str) -> None:
        self._change(VolumeRecord, volume_id, lambda record: record.admin_metadata.pop(key, None))

    def volume_glance_metadata_get(self, context: Any, volume_id: str) -> list[Row]:
        found = self._get(VolumeRecord, volume_id).glance_metadata
        if not found:
            raise exception.GlanceMetadataNotFound(id=volume_id)
        return rows.entries(found)

    def volume_glance_metadata_create(self, context: Any, volume_id: str, key: str, value: Any) -> None:
        self.volume_glance_metadata_bulk_create(context, volume_id, {key: value})

    def volume_glance_metadata_bulk_create(self, context: Any, volume_id: str, metadata: JSON) -> None:
        self._merge(VolumeRecord, volume_id, "glance_metadata", metadata, delete=False)

    def volume_glance_metadata_delete_by_volume(self, context: Any, volume_id: str) -> None:
        self._change(VolumeRecord, volume_id, lambda record: record.glance_metadata.clear())

    def volume_glance_metadata_delete_by_snapshot(self, context: Any, snapshot_id: str) -> None:
        """Snapshots keep none: their volume's are read instead."""

    def volume_encryption_metadata_get(self, context: Any, volume_id: str) -> JSON:
        return {"encryption_key_id": self._get(VolumeRecord, volume_id).encryption_key_id}

    # Snapshots.

    def snapshot_get(self, context: Any, snapshot_id: str) -> Row:
        return self._snapshot_row(self._get(SnapshotRecord, snapshot_id))

    def snapshot_create(self, context: Any, values: JSON) -> Row:
        volume = self._get(VolumeRecord, values["volume_id"])
        fields = rows.values_for(SnapshotRecord, values)
        if fields.get("volume_type_id") == DEFAULT_TYPE_ID:
            fields["volume_type_id"] = None
        record = SnapshotRecord(id=values.get("id") or str(uuid.uuid4()), backend=volume.backend, **fields)
        return self._snapshot_row(self._store.create(record))

    def snapshot_update(self, context: Any, snapshot_id: str, values: JSON) -> None:
        fields = rows.values_for(SnapshotRecord, values)
        self._change(SnapshotRecord, snapshot_id, lambda record: _assign(record, fields))

    def snapshot_destroy(self, context: Any, snapshot_id: str) -> JSON:
        record = self._store.get(SnapshotRecord, snapshot_id)
        if record is not None:
            self._store.delete(record)
        return _deleted(status="deleted")

    def snapshot_get_all(
        self,
        context: Any,
        filters: JSON | None = None,
        marker: str | None = None,
        limit: int | None = None,
        sort_keys: list[str] | None = None,
        sort_dirs: list[str] | None = None,
        offset: int | None = None,
    ) -> list[Row]:
        found = self._snapshot_rows(self._store.find(SnapshotRecord), filters)
        return page(found, marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset)

    def snapshot_get_all_for_volume(self, context: Any, volume_id: str) -> list[Row]:
        return self._snapshot_rows(self._store.find(SnapshotRecord, volume_id=volume_id))

    def snapshot_get_latest_for_volume(self, context: Any, volume_id: str) -> Row:
        found: list[Row] = page(self.snapshot_get_all_for_volume(context, volume_id), limit=1)
        if not found:
            raise exception.VolumeSnapshotNotFound(volume_id=volume_id)
        return found[0]

    def snapshot_get_all_by_host(self, context: Any, host: str | None, filters: JSON | None = None) -> list[Row]:
        volumes = {record.id for record in self._volumes_of_host(host)} if host else set()
        records = [found for found in self._store.find(SnapshotRecord) if found.volume_id in volumes]
        return self._snapshot_rows(records, filters)

    def snapshot_get_all_by_project(
        self,
        context: Any,
        project_id: str,
        filters: JSON | None = None,
        marker: str | None = None,
        limit: int | None = None,
        sort_keys: list[str] | None = None,
        sort_dirs: list[str] | None = None,
        offset: int | None = None,
    ) -> list[Row]:
        wanted = {**(filters or {}), "project_id": project_id}
        return self.snapshot_get_all(context, wanted, marker, limit, sort_keys, sort_dirs, offset)

    def snapshot_get_all_for_group_snapshot(self, context: Any, group_snapshot_id: str) -> list[Row]:
        return self._snapshot_rows(self._store.find(SnapshotRecord, group_snapshot_id=group_snapshot_id))

    def snapshot_get_all_for_cgsnapshot(self, context: Any, cgsnapshot_id: str) -> list[Row]:
        return self._snapshot_rows(
            [found for found in self._store.find(SnapshotRecord) if found.cgsnapshot_id == cgsnapshot_id]
        )

    def snapshot_metadata_get(self, context: Any, snapshot_id: str) -> dict[str, str]:
        return dict(self._get(SnapshotRecord, snapshot_id).metadata)

    def snapshot_metadata_update(self, context: Any, snapshot_id: str, metadata: JSON, delete: bool) -> dict[str, str]:
        return self._merge(SnapshotRecord, snapshot_id, "metadata", metadata, delete=delete)

    def snapshot_metadata_delete(self, context: Any, snapshot_id: str, key: str) -> None:
        self._change(SnapshotRecord, snapshot_id, lambda record: record.metadata.pop(key, None))

    def get_snapshot_summary(self, context: Any, project_only: bool, filters: JSON | None = None) -> tuple[int, int]:
        found = self._snapshot_rows(self._store.find(SnapshotRecord), filters)
        return len(found), sum(row["volume_size"] or 0 for row in found)

    # Attachments: our connections.

    def volume_attachment_get(self, context: Any, attachment_id: str) -> Row:
        return rows.attachment_row(self._get(ConnectionRecord, attachment_id))

    def volume_attachment_get_all_by_volume_id(self, context: Any, volume_id: str) -> list[Row]:
        found = self._store.find(ConnectionRecord, volume_id=volume_id)
        return [rows.attachment_row(record) for record in found if record.attach_status != "detached"]

    def volume_attachment_get_all_by_host(self, context: Any, host: str, filters: JSON | None = None) -> list[Row]:
        return self.volume_attachment_get_all(context, {**(filters or {}), "attached_host": host})

    def volume_attachment_get_all_by_instance_uuid(
        self, context: Any, instance_uuid: str, filters: JSON | None = None
    ) -> list[Row]:
        return self.volume_attachment_get_all(context, {**(filters or {}), "instance_uuid": instance_uuid})

    def volume_attachment_get_all(
        self,
        context: Any,
        filters: JSON | None = None,
        marker: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        sort_keys: list[str] | None = None,
        sort_dirs: list[str] | None = None,
    ) -> list[Row]:
        found = [rows.attachment_row(record) for record in self._store.find(ConnectionRecord)]
        found = [row for row in found if row["attach_status"] != "detached" and matches(row, filters)]
        return page(found, marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset)

    def volume_attach(self, context: Any, values: JSON) -> Row:
        fields = rows.values_for(ConnectionRecord, values)
        record = ConnectionRecord(id=values.get("id") or str(uuid.uuid4()), **fields)
        return rows.attachment_row(self._store.create(record))

    def volume_attachment_update(self, context: Any, attachment_id: str, values: JSON) -> None:
        fields = rows.values_for(ConnectionRecord, values)
        self._change(ConnectionRecord, attachment_id, lambda record: _assign(record, fields))

    def volume_attached(
        self,
        context: Any,
        attachment_id: str,
        instance_uuid: str | None,
        host_name: str | None,
        mountpoint: str | None,
        attach_mode: str = "rw",
        mark_attached: bool = True,
    ) -> tuple[Row, JSON]:
        status = "attached" if mark_attached else "attaching"
        updates: JSON = {
            "mountpoint": mountpoint,
            "attach_status": status,
            "instance_uuid": instance_uuid,
            "attached_host": host_name,
            "attach_time": datetime.now(UTC),
            "attach_mode": attach_mode,
        }
        attachment, _ = self._change(ConnectionRecord, attachment_id, lambda record: _assign(record, updates))
        volume, _ = self._change(
            VolumeRecord,
            attachment.volume_id,
            lambda record: _assign(record, {"status": _VOLUME_STATUSES.get(status, status), "attach_status": status}),
        )
        return self._volume_row(volume), updates

    def volume_detached(self, context: Any, volume_id: str, attachment_id: str) -> tuple[JSON, JSON | None]:
        self._get(VolumeRecord, volume_id)
        attachment = self._store.get(ConnectionRecord, attachment_id)
        if attachment is not None:
            self._store.delete(attachment)
        left = [
            found.attach_status
            for found in self._store.find(ConnectionRecord, volume_id=volume_id)
            if not found.attach_status.startswith("error_")
        ]
        attach_status = min(left, default="detached")
        updates = {"attach_status": attach_status, "status": _VOLUME_STATUSES.get(attach_status, attach_status)}
        self._change(VolumeRecord, volume_id, lambda record: _assign(record, updates))
        return updates, None if attachment is None else _deleted()

    def attachment_destroy(self, context: Any, attachment_id: str) -> JSON:
        record = self._store.get(ConnectionRecord, attachment_id)
        if record is not None:
            self._store.delete(record)
        return _deleted(attach_status="deleted")

    def attachment_specs_get(self, context: Any, attachment_id: str) -> dict[str, str]:
        """Superseded by the connector column; nothing here was ever written in the old way."""
        return {}

    def attachment_specs_delete(self, context: Any, attachment_id: str, key: str) -> None:
        raise exception.AttachmentSpecsNotFound(attachment_id=attachment_id, specs_key=key)

    # Volume types and QoS specs: a volume's own specs under the volume's id.

    def volume_type_get(
        self, context: Any, id: str, inactive: bool = False, expected_fields: Iterable[str] | None = None
    ) -> JSON:
        if id == DEFAULT_TYPE_ID:
            return _default_type()
        return rows.type_of(self._volume_of_type(id))

    def volume_type_get_by_name(self, context: Any, name: str) -> JSON:
        if name == DEFAULT_TYPE_NAME:
            return _default_type()
        try:
            return self.volume_type_get(context, name)
        except exception.VolumeTypeNotFound as error:
            raise exception.VolumeTypeNotFoundByName(volume_type_name=name) from error

    def volume_type_get_all(
        self,
        context: Any,
        inactive: bool = False,
        filters: JSON | None = None,
        marker: str | None = None,
        limit: int | None = None,
        sort_keys: list[str] | None = None,
        sort_dirs: list[str] | None = None,
        offset: int | None = None,
        list_result: bool = False,
    ) -> list[JSON] | dict[str, JSON]:
        found = [rows.type_of(record) for record in self._store.find(VolumeRecord) if rows.type_id_of(record)]
        unique = {item["id"]: item for item in [_default_type(), *found]}
        chosen = page(
            unique.values(), marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset
        )
        return chosen if list_result else {item["name"]: item for item in chosen}

    def volume_type_extra_specs_get(self, context: Any, volume_type_id: str) -> dict[str, str]:
        return dict(self.volume_type_get(context, volume_type_id)["extra_specs"])

    def volume_type_qos_specs_get(self, context: Any, type_id: str) -> JSON:
        return {"qos_specs": self.volume_type_get(context, type_id)["qos_specs"]}

    def volume_type_access_get_all(self, context: Any, type_id: str) -> list[Row]:
        """Types are public here, so there are no projects to name."""
        self.volume_type_get(context, type_id)
        return []

    def volume_type_encryption_get(self, context: Any, volume_type_id: str) -> None:
        """LUKS is set up by the CSI node with the claim's secret, never by a type."""
        return

    def volume_type_get_all_by_group(self, context: Any, group_id: str) -> list[JSON]:
        group = self._get(GroupRecord, group_id)
        members = self._store.find(VolumeRecord, group_id=group_id)
        ids = {*group.volume_type_ids, *(type_id for type_id in map(rows.type_id_of, members) if type_id)}
        return [self.volume_type_get(context, type_id) for type_id in sorted(ids)]

    def project_default_volume_type_get(self, context: Any, project_id: str | None = None) -> None:
        """No project has a default of its own."""
        return

    def get_all_projects_with_default_type(self, context: Any, volume_type_id: str) -> list[Row]:
        return []

    def qos_specs_get(self, context: Any, qos_specs_id: str, inactive: bool = False) -> JSON:
        record = self._store.get(VolumeRecord, qos_specs_id)
        found = rows.qos_of(record) if record else None
        if found is None:
            raise exception.QoSSpecsNotFound(specs_id=qos_specs_id)
        return found

    def qos_specs_get_all(self, context: Any, filters: JSON | None = None, **paging: Any) -> list[JSON]:
        found = [rows.qos_of(record) for record in self._store.find(VolumeRecord)]
        return page([specs for specs in found if specs and matches(specs, filters)], **paging)

    def qos_specs_get_by_name(self, context: Any, name: str, inactive: bool = False) -> JSON:
        return self.qos_specs_get(context, name)

    def qos_specs_associations_get(self, context: Any, qos_specs_id: str) -> list[JSON]:
        self.qos_specs_get(context, qos_specs_id)
        return [rows.type_of(self._get(VolumeRecord, qos_specs_id))]

    # Groups and group snapshots.

    def group_get(self, context: Any, group_id: str) -> Row:
        return self._group_row(self._get(GroupRecord, group_id))

    def group_get_all(
        self,
        context: Any,
        filters: JSON | None = None,
        marker: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        sort_keys: list[str] | None = None,
        sort_dirs: list[str] | None = None,
    ) -> list[Row]:
        found = [self._group_row(record) for record in self._store.find(GroupRecord)]
        found = [row for row in found if matches(row, filters)]
        return page(found, marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset)

    def group_get_all_by_project(
        self, context: Any, project_id: str, filters: JSON | None = None, *paging: Any, **more_paging: Any
    ) -> list[Row]:
        return self.group_get_all(context, {**(filters or {}), "project_id": project_id}, *paging, **more_paging)

    def group_update(self, context: Any, group_id: str, values: JSON) -> None:
        fields = rows.values_for(GroupRecord, values)
        self._change(GroupRecord, group_id, lambda record: _assign(record, fields))

    def group_destroy(self, context: Any, group_id: str) -> None:
        record = self._store.get(GroupRecord, group_id)
        if record is not None:
            self._store.delete(record)

    def group_type_get(
        self, context: Any, id: str, inactive: bool = False, expected_fields: Iterable[str] | None = None
    ) -> JSON:
        types = self._group_types()
        if id not in types:
            raise exception.GroupTypeNotFound(group_type_id=id)
        return types[id]

    def group_type_get_by_name(self, context: Any, name: str) -> JSON:
        types = self._group_types()
        if name not in types:
            raise exception.GroupTypeNotFoundByName(group_type_name=name)
        return types[name]

    def group_type_get_all(
        self, context: Any, inactive: bool = False, filters: JSON | None = None, **paging: Any
    ) -> list[JSON] | dict[str, JSON]:
        list_result = paging.pop("list_result", False)
        chosen = page(self._group_types().values(), **paging)
        return chosen if list_result else {item["name"]: item for item in chosen}

    def group_type_specs_get(self, context: Any, group_type_id: str) -> dict[str, str]:
        return dict(self.group_type_get(context, group_type_id)["group_specs"])

    def group_snapshot_get(self, context: Any, group_snapshot_id: str) -> Row:
        return self._group_snapshot_row(self._get(GroupSnapshotRecord, group_snapshot_id))

    def group_snapshot_get_all(self, context: Any, filters: JSON | None = None, **paging: Any) -> list[Row]:
        found = [self._group_snapshot_row(record) for record in self._store.find(GroupSnapshotRecord)]
        return page([row for row in found if matches(row, filters)], **paging)

    def group_snapshot_get_all_by_group(
        self, context: Any, group_id: str, filters: JSON | None = None, **paging: Any
    ) -> list[Row]:
        return self.group_snapshot_get_all(context, {**(filters or {}), "group_id": group_id}, **paging)

    def group_snapshot_get_all_by_project(
        self, context: Any, project_id: str, filters: JSON | None = None, **paging: Any
    ) -> list[Row]:
        return self.group_snapshot_get_all(context, {**(filters or {}), "project_id": project_id}, **paging)

    def group_snapshot_update(self, context: Any, group_snapshot_id: str, values: JSON) -> None:
        fields = rows.values_for(GroupSnapshotRecord, values)
        self._change(GroupSnapshotRecord, group_snapshot_id, lambda record: _assign(record, fields))

    def group_snapshot_destroy(self, context: Any, group_snapshot_id: str) -> JSON:
        record = self._store.get(GroupSnapshotRecord, group_snapshot_id)
        if record is not None:
            self._store.delete(record)
        return _deleted(status="deleted")

    # Consistency groups came before groups; nothing here makes any.

    def consistencygroup_get(self, context: Any, consistencygroup_id: str) -> Row:
        raise exception.ConsistencyGroupNotFound(consistencygroup_id=consistencygroup_id)

    def consistencygroup_get_all(self, context: Any, *args: Any, **kwargs: Any) -> list[Row]:
        return []

    def cgsnapshot_get(self, context: Any, cgsnapshot_id: str) -> Row:
        raise exception.CgSnapshotNotFound(cgsnapshot_id=cgsnapshot_id)

    def cgsnapshot_get_all(self, context: Any, filters: JSON | None = None) -> list[Row]:
        return []

    # Services: no Cinder service runs here, so none is registered, as in the plugins on Cinder's own tables.

    def service_get(
        self,
        context: Any,
        service_id: Any = None,
        backend_match_level: str | None = None,
        **filters: Any,
    ) -> Row:
        wanted = service_id or filters.get("topic") or filters.get("binary")
        raise exception.ServiceNotFound(service_id=wanted, host=filters.get("host"))

    def service_get_by_uuid(self, context: Any, service_uuid: str) -> Row:
        raise exception.ServiceNotFound(service_id=service_uuid)

    def service_get_all(self, context: Any, backend_match_level: str | None = None, **filters: Any) -> list[Row]:
        return []

    def is_backend_frozen(self, context: Any, host: str | None, cluster_name: str | None) -> bool:
        return False

    # What some drivers keep about initiators.

    def driver_initiator_data_get(self, context: Any, initiator: str, namespace: str) -> list[Row]:
        prefix = f"{_INITIATOR_DATA}{namespace}/{initiator}/"
        # Nothing sorts between the prefix and the first key that starts with it.
        found = self._store.find(KeyValueRecord, after=prefix)
        data = []
        for record in found:
            if not record.id.startswith(prefix):
                break
            key = record.id.removeprefix(prefix)
            data.append(Row({"initiator": initiator, "namespace": namespace, "key": key, "value": record.value}))
        return data

    def driver_initiator_data_insert_by_key(
        self, context: Any, initiator: str, namespace: str, key: str, value: str
    ) -> Row:
        try:
            self._store.create(KeyValueRecord(id=f"{_INITIATOR_DATA}{namespace}/{initiator}/{key}", value=value))
        except RecordExists as error:
            raise exception.DriverInitiatorDataExists(initiator=initiator, namespace=namespace, key=key) from error
        return Row({"initiator": initiator, "namespace": namespace, "key": key, "value": value})

    # Volumes made from images are kept by Cinder's image service code, which does not run here.

    def image_volume_cache_get_by_volume_id(self, context: Any, volume_id: str) -> None:
        return

    def image_volume_cache_get_all(self, context: Any, **filters: Any) -> list[Row]:
        return []

    # How the methods above work.

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

    def _get(self, kind: type[R], record_id: str) -> R:
        record = self._store.get(kind, record_id)
        if record is None:
            raise _NOT_FOUND[kind](record_id)
        return record

    def _change(self, kind: type[R], record_id: str, change: Callable[[R], Any]) -> tuple[R, Any]:
        """Apply a change to the stored record; the new record and what ``change`` returned (False writes nothing)."""
        while True:
            record = self._get(kind, record_id)
            result = change(record)
            if result is False:
                return record, result
            try:
                return self._store.update(record), result
            except RevisionConflict:
                continue  # another writer was faster: apply the change to what it wrote
            except RecordNotFound as error:
                raise _NOT_FOUND[kind](record_id) from error

    def _merge(
        self,
        kind: type[Record],
        record_id: str,
        name: str,
        values: Mapping[str, Any],
        *,
        delete: bool,
        keep: set[str] | None = None,
    ) -> dict[str, str]:
        """Add values to a dictionary of a record; ``delete`` drops the keys that are neither in them nor in keep."""

        def change(record: Any) -> None:
            current = getattr(record, name)
            if delete:
                kept = set(values) | (keep or set())
                current = {key: value for key, value in current.items() if key in kept}
            setattr(record, name, {**current, **{key: str(value) for key, value in values.items()}})

        record, _ = self._change(kind, record_id, change)
        return dict(getattr(record, name))

    def _volumes_of_host(self, host: str) -> list[VolumeRecord]:
        backend = host.partition("#")[0].partition("@")[2] or None
        found = self._store.find(VolumeRecord, backend=backend)
        return [record for record in found if record.host == host or record.host.startswith(f"{host}#")]

    def _volume_of_type(self, type_id: str) -> VolumeRecord:
        own = self._store.get(VolumeRecord, type_id)
        if own is not None and rows.type_id_of(own) == type_id:
            return own
        for record in self._store.find(VolumeRecord):
            if record.volume_type_id == type_id:
                return record
        raise exception.VolumeTypeNotFound(volume_type_id=type_id)

    def _copy_specs(self, record: VolumeRecord, type_id: str) -> None:
        """Give a volume that a driver makes with another volume's type the specs of that type."""
        source = self._volume_of_type(type_id)
        record.extra_specs = dict(source.extra_specs)
        record.qos_specs = dict(source.qos_specs)
        record.volume_type_id = record.id if record.extra_specs or record.qos_specs else None

    def _group_types(self) -> dict[str, JSON]:
        """A group's own specs, as a type with the group's id (or the one that the group names)."""
        found = {record.group_type_id or record.id: record for record in self._store.find(GroupRecord)}
        return {type_id: rows.group_type_of(type_id, record) for type_id, record in found.items()}

    def _row(self, record: Record) -> Row:
        makers: dict[type[Record], Callable[[Any], Row]] = {
            VolumeRecord: self._volume_row,
            SnapshotRecord: self._snapshot_row,
            ConnectionRecord: rows.attachment_row,
            GroupRecord: self._group_row,
            GroupSnapshotRecord: self._group_snapshot_row,
        }
        return makers[type(record)](record)

    def _volume_row(self, record: VolumeRecord) -> Row:
        return rows.volume_row(
            record,
            {
                "volume_type": lambda: rows.type_of(record) if rows.type_id_of(record) else None,
                "volume_attachment": lambda: self.volume_attachment_get_all_by_volume_id(None, record.id),
                "snapshots": lambda: self.snapshot_get_all_for_volume(None, record.id),
                "group": lambda: self.group_get(None, record.group_id) if record.group_id else None,
            },
        )

    def _volume_rows(self, records: Iterable[VolumeRecord], filters: JSON | None = None) -> list[Row]:
        found = (self._volume_row(record) for record in records)
        return [row for row in found if matches(row, filters)]

    def _snapshot_row(self, record: SnapshotRecord) -> Row:
        relationships: dict[str, Callable[[], Any]] = {
            "volume": lambda: self.volume_get(None, record.volume_id),
            "volume_name": lambda: self.volume_get(None, record.volume_id)["name"],
            "group_snapshot": lambda: (
                self.group_snapshot_get(None, record.group_snapshot_id) if record.group_snapshot_id else None
            ),
        }
        return rows.snapshot_row(record, relationships)

    def _snapshot_rows(self, records: Iterable[SnapshotRecord], filters: JSON | None = None) -> list[Row]:
        found = (self._snapshot_row(record) for record in records)
        return [row for row in found if matches(row, filters)]

    def _group_row(self, record: GroupRecord) -> Row:
        relationships: dict[str, Callable[[], Any]] = {
            "volumes": lambda: self.volume_get_all_by_generic_group(None, record.id),
            "volume_types": lambda: self.volume_type_get_all_by_group(None, record.id),
            "group_snapshots": lambda: self.group_snapshot_get_all_by_group(None, record.id),
        }
        row = rows.group_row(record, relationships)
        if record.group_type_id is None:
            row["group_type_id"] = record.id
        return row

    def _group_snapshot_row(self, record: GroupSnapshotRecord) -> Row:
        relationships: dict[str, Callable[[], Any]] = {
            "group": lambda: self.group_get(None, record.group_id),
            "snapshots": lambda: self.snapshot_get_all_for_group_snapshot(None, record.id),
        }
        return rows.group_snapshot_row(record, relationships)


_RECORD_OF: dict[Any, type[Record]] = {
    models.Volume: VolumeRecord,
    models.Snapshot: SnapshotRecord,
    models.VolumeAttachment: ConnectionRecord,
    models.Group: GroupRecord,
    models.GroupSnapshot: GroupSnapshotRecord,
}


def _assign(record: Record, values: Mapping[str, Any]) -> bool:
    for name, value in values.items():
        setattr(record, name, value)
    return True


def _deleted(**values: Any) -> JSON:
    return {"deleted": True, "deleted_at": datetime.now(UTC), **values}


def _default_type() -> JSON:
    return {
        "id": DEFAULT_TYPE_ID,
        "name": DEFAULT_TYPE_NAME,
        "description": "Default Volume Type",
        "is_public": True,
        "extra_specs": {},
        "projects": [],
        "qos_specs_id": None,
        "qos_specs": None,
        "created_at": None,
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }


def _is_expected(value: Any, expected: Any) -> bool:
    """Cinder's conditions: a value, several of them, or its Not() around either."""
    negated = hasattr(expected, "value")
    wanted = expected.value if negated else expected
    is_several = isinstance(wanted, list | tuple | set | frozenset)
    return (value in wanted if is_several else value == wanted) is not negated
