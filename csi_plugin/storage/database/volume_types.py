"""Cinder's database functions about volume types and QoS specs: a volume's own specs, under the volume's id."""

from collections.abc import Iterable
from typing import Any

from cinder import exception

from csi_plugin.persistence.records import JSON, VolumeRecord
from csi_plugin.storage.database import rows
from csi_plugin.storage.database.functions import DatabaseFunctions
from csi_plugin.storage.database.queries import matches, page
from csi_plugin.storage.database.rows import Row


class VolumeTypeFunctions(DatabaseFunctions):
    """Volume types and QoS specs."""

    def volume_type_get(
        self, context: Any, id: str, inactive: bool = False, expected_fields: Iterable[str] | None = None
    ) -> JSON:
        return self._rows.volume_type(id)

    def volume_type_get_by_name(self, context: Any, name: str) -> JSON:
        if name == rows.DEFAULT_TYPE_NAME:
            return rows.default_type()
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
        unique = {item["id"]: item for item in [rows.default_type(), *found]}
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
        return self._rows.volume_types_of_group(group_id)

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
        return [rows.type_of(self._records.get(VolumeRecord, qos_specs_id))]
