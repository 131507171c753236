"""Cinder's database functions about attachments, which are the library's connections."""

import uuid
from datetime import UTC, datetime
from typing import Any

from cinder import exception

from csi_plugin.persistence.records import JSON, ConnectionRecord, VolumeRecord
from csi_plugin.storage.database import rows
from csi_plugin.storage.database.functions import DatabaseFunctions
from csi_plugin.storage.database.queries import matches, page
from csi_plugin.storage.database.record_access import assign, deleted
from csi_plugin.storage.database.rows import Row

_VOLUME_STATUSES = {"attached": "in-use", "detached": "available"}


class AttachmentFunctions(DatabaseFunctions):
    """Attachments, and the volume's status that follows from them."""

    def volume_attachment_get(self, context: Any, attachment_id: str) -> Row:
        return rows.attachment_row(self._records.get(ConnectionRecord, attachment_id))

    def volume_attachment_get_all_by_volume_id(self, context: Any, volume_id: str) -> list[Row]:
        return self._rows.attachments_of_volume(volume_id)

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
        self._records.change(ConnectionRecord, attachment_id, lambda record: assign(record, fields))

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
        attachment, _ = self._records.change(ConnectionRecord, attachment_id, lambda record: assign(record, updates))
        volume, _ = self._records.change(
            VolumeRecord,
            attachment.volume_id,
            lambda record: assign(record, {"status": _VOLUME_STATUSES.get(status, status), "attach_status": status}),
        )
        return self._rows.volume(volume), updates

    def volume_detached(self, context: Any, volume_id: str, attachment_id: str) -> tuple[JSON, JSON | None]:
        self._records.get(VolumeRecord, volume_id)
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
        self._records.change(VolumeRecord, volume_id, lambda record: assign(record, updates))
        return updates, None if attachment is None else deleted()

    def attachment_destroy(self, context: Any, attachment_id: str) -> JSON:
        self._records.delete(ConnectionRecord, attachment_id)
        return deleted(attach_status="deleted")

    def attachment_specs_get(self, context: Any, attachment_id: str) -> dict[str, str]:
        """Superseded by the connector column; nothing here was ever written in the old way."""
        return {}

    def attachment_specs_delete(self, context: Any, attachment_id: str, key: str) -> None:
        raise exception.AttachmentSpecsNotFound(attachment_id=attachment_id, specs_key=key)
