"""Rows with their relationships: a volume's snapshots, a snapshot's volume and so on, looked up when first read."""

from collections.abc import Callable, Iterable
from typing import Any

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
from csi_plugin.storage.database.queries import matches, page
from csi_plugin.storage.database.record_access import RecordAccess
from csi_plugin.storage.database.rows import Row


class RelatedRows:
    """Makes the rows of one store's records. Thread-safe as the store is."""

    def __init__(self, records: RecordAccess) -> None:
        self._records = records
        self._store = records.store

    def of(self, record: Record) -> Row:
        """The row of a record of any kind."""
        makers: dict[type[Record], Callable[[Any], Row]] = {
            VolumeRecord: self.volume,
            SnapshotRecord: self.snapshot,
            ConnectionRecord: rows.attachment_row,
            GroupRecord: self.group,
            GroupSnapshotRecord: self.group_snapshot,
        }
        return makers[type(record)](record)

    def volume(self, record: VolumeRecord) -> Row:
        return rows.volume_row(
            record,
            {
                "volume_type": lambda: rows.type_of(record) if rows.type_id_of(record) else None,
                "volume_attachment": lambda: self.attachments_of_volume(record.id),
                "snapshots": lambda: self.snapshots(self._store.find(SnapshotRecord, volume_id=record.id)),
                "group": lambda: self._group(record.group_id) if record.group_id else None,
            },
        )

    def volumes(self, records: Iterable[VolumeRecord], filters: JSON | None = None) -> list[Row]:
        found = (self.volume(record) for record in records)
        return [row for row in found if matches(row, filters)]

    def snapshot(self, record: SnapshotRecord) -> Row:
        relationships: dict[str, Callable[[], Any]] = {
            "volume": lambda: self._volume(record.volume_id),
            "volume_name": lambda: self._volume(record.volume_id)["name"],
            "group_snapshot": lambda: (
                self._group_snapshot(record.group_snapshot_id) if record.group_snapshot_id else None
            ),
        }
        return rows.snapshot_row(record, relationships)

    def snapshots(self, records: Iterable[SnapshotRecord], filters: JSON | None = None) -> list[Row]:
        found = (self.snapshot(record) for record in records)
        return [row for row in found if matches(row, filters)]

    def attachments_of_volume(self, volume_id: str) -> list[Row]:
        found = self._store.find(ConnectionRecord, volume_id=volume_id)
        return [rows.attachment_row(record) for record in found if record.attach_status != "detached"]

    def group(self, record: GroupRecord) -> Row:
        relationships: dict[str, Callable[[], Any]] = {
            "volumes": lambda: self.volumes(self._store.find(VolumeRecord, group_id=record.id)),
            "volume_types": lambda: self.volume_types_of_group(record.id),
            "group_snapshots": lambda: self._group_snapshots(record.id),
        }
        row = rows.group_row(record, relationships)
        if record.group_type_id is None:
            row["group_type_id"] = record.id
        return row

    def group_snapshot(self, record: GroupSnapshotRecord) -> Row:
        relationships: dict[str, Callable[[], Any]] = {
            "group": lambda: self._group(record.group_id),
            "snapshots": lambda: self.snapshots(self._store.find(SnapshotRecord, group_snapshot_id=record.id)),
        }
        return rows.group_snapshot_row(record, relationships)

    def volume_type(self, type_id: str) -> JSON:
        """Raises VolumeTypeNotFound."""
        if type_id == rows.DEFAULT_TYPE_ID:
            return rows.default_type()
        return rows.type_of(self._records.volume_of_type(type_id))

    def volume_types_of_group(self, group_id: str) -> list[JSON]:
        group = self._records.get(GroupRecord, group_id)
        members = self._store.find(VolumeRecord, group_id=group_id)
        ids = {*group.volume_type_ids, *(type_id for type_id in map(rows.type_id_of, members) if type_id)}
        return [self.volume_type(type_id) for type_id in sorted(ids)]

    def _volume(self, volume_id: str) -> Row:
        return self.volume(self._records.get(VolumeRecord, volume_id))

    def _group(self, group_id: str) -> Row:
        return self.group(self._records.get(GroupRecord, group_id))

    def _group_snapshot(self, group_snapshot_id: str) -> Row:
        return self.group_snapshot(self._records.get(GroupSnapshotRecord, group_snapshot_id))

    def _group_snapshots(self, group_id: str) -> list[Row]:
        found = (self.group_snapshot(record) for record in self._store.find(GroupSnapshotRecord))
        return page(row for row in found if row["group_id"] == group_id)
