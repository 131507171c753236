"""Cinder's database functions about volumes, and about their metadata."""

import uuid
from collections.abc import Iterable
from typing import Any

from cinder import exception

from csi_plugin.persistence.records import JSON, SnapshotRecord, VolumeRecord
from csi_plugin.storage.database import rows
from csi_plugin.storage.database.functions import DatabaseFunctions
from csi_plugin.storage.database.queries import page
from csi_plugin.storage.database.record_access import assign, deleted
from csi_plugin.storage.database.rows import Row


class VolumeFunctions(DatabaseFunctions):
    """Volumes and what is counted of them."""

    def volume_get(self, context: Any, volume_id: str) -> Row:
        return self._rows.volume(self._records.get(VolumeRecord, volume_id))

    def volume_create(self, context: Any, values: JSON) -> Row:
        fields = {"shared_targets": True, **rows.values_for(VolumeRecord, values)}
        record = VolumeRecord(id=values.get("id") or str(uuid.uuid4()), **fields)
        if record.volume_type_id == rows.DEFAULT_TYPE_ID:
            record.volume_type_id = None
        elif record.volume_type_id and record.volume_type_id != record.id:
            self._copy_specs(record, record.volume_type_id)
        return self._rows.volume(self._store.create(record))

    def volume_update(self, context: Any, volume_id: str, values: JSON) -> None:
        fields = rows.values_for(VolumeRecord, values)
        if fields.get("volume_type_id") == rows.DEFAULT_TYPE_ID:
            fields["volume_type_id"] = None
        self._records.change(VolumeRecord, volume_id, lambda record: assign(record, fields))

    def volumes_update(self, context: Any, values_list: Iterable[JSON]) -> None:
        for values in values_list:
            self.volume_update(context, values["id"], {key: values[key] for key in values if key != "id"})

    def volume_destroy(self, context: Any, volume_id: str) -> JSON:
        self._records.delete(VolumeRecord, volume_id)
        return deleted(status="deleted", migration_status=None)

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
        found = self._rows.volumes(self._store.find(VolumeRecord), filters)
        return page(found, marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset)

    def volume_get_all_by_host(self, context: Any, host: str | None, filters: JSON | None = None) -> list[Row]:
        return self._rows.volumes(self._records.volumes_of_host(host), filters) if host else []

    def volume_get_all_by_group(self, context: Any, group_id: str, filters: JSON | None = None) -> list[Row]:
        """By consistency group, which is what Cinder had before groups: drivers still ask for one by that name."""
        records = [found for found in self._store.find(VolumeRecord) if found.consistencygroup_id == group_id]
        return self._rows.volumes(records, filters)

    def volume_get_all_by_generic_group(self, context: Any, group_id: str, filters: JSON | None = None) -> list[Row]:
        return self._rows.volumes(self._store.find(VolumeRecord, group_id=group_id), filters)

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
        found = self._rows.volumes(self._store.find(VolumeRecord), filters)
        metadata: dict[str, list[str]] = {}
        for row in found:
            for entry in row["volume_metadata"]:
                values = metadata.setdefault(entry["key"], [])
                if entry["value"] not in values:
                    values.append(entry["value"])
        return len(found), sum(row["size"] or 0 for row in found), metadata

    def _copy_specs(self, record: VolumeRecord, type_id: str) -> None:
        """Give a volume that a driver creates with another volume's type the specs of that type."""
        source = self._records.volume_of_type(type_id)
        record.extra_specs = dict(source.extra_specs)
        record.qos_specs = dict(source.qos_specs)
        record.volume_type_id = record.id if record.extra_specs or record.qos_specs else None


class VolumeMetadataFunctions(DatabaseFunctions):
    """A volume's metadata: the user's, the administrator's, an image's."""

    def volume_metadata_get(self, context: Any, volume_id: str) -> dict[str, str]:
        return dict(self._records.get(VolumeRecord, volume_id).metadata)

    def volume_metadata_update(
        self, context: Any, volume_id: str, metadata: JSON, delete: bool, meta_type: Any = None
    ) -> dict[str, str]:
        return self._records.merge(VolumeRecord, volume_id, "metadata", metadata, delete=delete)

    def volume_metadata_delete(self, context: Any, volume_id: str, key: str, meta_type: Any = None) -> None:
        self._records.change(VolumeRecord, volume_id, lambda record: record.metadata.pop(key, None))

    def volume_admin_metadata_get(self, context: Any, volume_id: str) -> dict[str, str]:
        return dict(self._records.get(VolumeRecord, volume_id).admin_metadata)

    def volume_admin_metadata_update(
        self, context: Any, volume_id: str, metadata: JSON, delete: bool, add: bool = True, update: bool = True
    ) -> dict[str, str]:
        current = self._records.get(VolumeRecord, volume_id).admin_metadata
        wanted = {key: value for key, value in metadata.items() if (update if key in current else add)}
        return self._records.merge(VolumeRecord, volume_id, "admin_metadata", wanted, delete=delete, keep=set(metadata))

    def volume_admin_metadata_delete(self, context: Any, volume_id: str, key: str) -> None:
        self._records.change(VolumeRecord, volume_id, lambda record: record.admin_metadata.pop(key, None))

    def volume_glance_metadata_get(self, context: Any, volume_id: str) -> list[Row]:
        found = self._records.get(VolumeRecord, volume_id).glance_metadata
        if not found:
            raise exception.GlanceMetadataNotFound(id=volume_id)
        return rows.entries(found)

    def volume_glance_metadata_create(self, context: Any, volume_id: str, key: str, value: Any) -> None:
        self.volume_glance_metadata_bulk_create(context, volume_id, {key: value})

    def volume_glance_metadata_bulk_create(self, context: Any, volume_id: str, metadata: JSON) -> None:
        self._records.merge(VolumeRecord, volume_id, "glance_metadata", metadata, delete=False)

    def volume_glance_metadata_delete_by_volume(self, context: Any, volume_id: str) -> None:
        self._records.change(VolumeRecord, volume_id, lambda record: record.glance_metadata.clear())

    def volume_glance_metadata_delete_by_snapshot(self, context: Any, snapshot_id: str) -> None:
        """Snapshots keep none: their volume's are read instead."""

    def volume_encryption_metadata_get(self, context: Any, volume_id: str) -> JSON:
        return {"encryption_key_id": self._records.get(VolumeRecord, volume_id).encryption_key_id}
