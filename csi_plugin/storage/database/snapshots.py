"""Cinder's database functions about snapshots."""

import uuid
from typing import Any

from cinder import exception

from csi_plugin.persistence.records import JSON, SnapshotRecord, VolumeRecord
from csi_plugin.storage.database import rows
from csi_plugin.storage.database.functions import DatabaseFunctions
from csi_plugin.storage.database.queries import page
from csi_plugin.storage.database.record_access import assign, deleted
from csi_plugin.storage.database.rows import Row


class SnapshotFunctions(DatabaseFunctions):
    """Snapshots and their metadata."""

    def snapshot_get(self, context: Any, snapshot_id: str) -> Row:
        return self._rows.snapshot(self._records.get(SnapshotRecord, snapshot_id))

    def snapshot_create(self, context: Any, values: JSON) -> Row:
        volume = self._records.get(VolumeRecord, values["volume_id"])
        fields = rows.values_for(SnapshotRecord, values)
        if fields.get("volume_type_id") == rows.DEFAULT_TYPE_ID:
            fields["volume_type_id"] = None
        record = SnapshotRecord(id=values.get("id") or str(uuid.uuid4()), backend=volume.backend, **fields)
        return self._rows.snapshot(self._store.create(record))

    def snapshot_update(self, context: Any, snapshot_id: str, values: JSON) -> None:
        fields = rows.values_for(SnapshotRecord, values)
        self._records.change(SnapshotRecord, snapshot_id, lambda record: assign(record, fields))

    def snapshot_destroy(self, context: Any, snapshot_id: str) -> JSON:
        self._records.delete(SnapshotRecord, snapshot_id)
        return deleted(status="deleted")

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
        found = self._rows.snapshots(self._store.find(SnapshotRecord), filters)
        return page(found, marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset)

    def snapshot_get_all_for_volume(self, context: Any, volume_id: str) -> list[Row]:
        return self._rows.snapshots(self._store.find(SnapshotRecord, volume_id=volume_id))

    def snapshot_get_latest_for_volume(self, context: Any, volume_id: str) -> Row:
        found: list[Row] = page(self.snapshot_get_all_for_volume(context, volume_id), limit=1)
        if not found:
            raise exception.VolumeSnapshotNotFound(volume_id=volume_id)
        return found[0]

    def snapshot_get_all_by_host(self, context: Any, host: str | None, filters: JSON | None = None) -> list[Row]:
        volumes = {record.id for record in self._records.volumes_of_host(host)} if host else set()
        records = [found for found in self._store.find(SnapshotRecord) if found.volume_id in volumes]
        return self._rows.snapshots(records, filters)

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
        return self._rows.snapshots(self._store.find(SnapshotRecord, group_snapshot_id=group_snapshot_id))

    def snapshot_get_all_for_cgsnapshot(self, context: Any, cgsnapshot_id: str) -> list[Row]:
        return self._rows.snapshots(
            [found for found in self._store.find(SnapshotRecord) if found.cgsnapshot_id == cgsnapshot_id]
        )

    def snapshot_metadata_get(self, context: Any, snapshot_id: str) -> dict[str, str]:
        return dict(self._records.get(SnapshotRecord, snapshot_id).metadata)

    def snapshot_metadata_update(self, context: Any, snapshot_id: str, metadata: JSON, delete: bool) -> dict[str, str]:
        return self._records.merge(SnapshotRecord, snapshot_id, "metadata", metadata, delete=delete)

    def snapshot_metadata_delete(self, context: Any, snapshot_id: str, key: str) -> None:
        self._records.change(SnapshotRecord, snapshot_id, lambda record: record.metadata.pop(key, None))

    def get_snapshot_summary(self, context: Any, project_only: bool, filters: JSON | None = None) -> tuple[int, int]:
        found = self._rows.snapshots(self._store.find(SnapshotRecord), filters)
        return len(found), sum(row["volume_size"] or 0 for row in found)
