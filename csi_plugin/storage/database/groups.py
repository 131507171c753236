"""Cinder's database functions about groups, their types, group snapshots, and consistency groups."""

from collections.abc import Iterable
from typing import Any

from cinder import exception

from csi_plugin.persistence.records import JSON, GroupRecord, GroupSnapshotRecord
from csi_plugin.storage.database import rows
from csi_plugin.storage.database.functions import DatabaseFunctions
from csi_plugin.storage.database.queries import matches, page
from csi_plugin.storage.database.record_access import assign, deleted
from csi_plugin.storage.database.rows import Row


class GroupFunctions(DatabaseFunctions):
    """Groups, group types and group snapshots."""

    def group_get(self, context: Any, group_id: str) -> Row:
        return self._rows.group(self._records.get(GroupRecord, group_id))

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
        found = [self._rows.group(record) for record in self._store.find(GroupRecord)]
        found = [row for row in found if matches(row, filters)]
        return page(found, marker=marker, limit=limit, sort_keys=sort_keys, sort_dirs=sort_dirs, offset=offset)

    def group_get_all_by_project(
        self, context: Any, project_id: str, filters: JSON | None = None, *paging: Any, **more_paging: Any
    ) -> list[Row]:
        return self.group_get_all(context, {**(filters or {}), "project_id": project_id}, *paging, **more_paging)

    def group_update(self, context: Any, group_id: str, values: JSON) -> None:
        fields = rows.values_for(GroupRecord, values)
        self._records.change(GroupRecord, group_id, lambda record: assign(record, fields))

    def group_destroy(self, context: Any, group_id: str) -> None:
        self._records.delete(GroupRecord, group_id)

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
        return self._rows.group_snapshot(self._records.get(GroupSnapshotRecord, group_snapshot_id))

    def group_snapshot_get_all(self, context: Any, filters: JSON | None = None, **paging: Any) -> list[Row]:
        found = [self._rows.group_snapshot(record) for record in self._store.find(GroupSnapshotRecord)]
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
        self._records.change(GroupSnapshotRecord, group_snapshot_id, lambda record: assign(record, fields))

    def group_snapshot_destroy(self, context: Any, group_snapshot_id: str) -> JSON:
        self._records.delete(GroupSnapshotRecord, group_snapshot_id)
        return deleted(status="deleted")

    def _group_types(self) -> dict[str, JSON]:
        """A group's own specs, as a type with the group's id (or the one that the group names)."""
        found = {record.group_type_id or record.id: record for record in self._store.find(GroupRecord)}
        return {type_id: rows.group_type_of(type_id, record) for type_id, record in found.items()}


class ConsistencyGroupFunctions(DatabaseFunctions):
    """Consistency groups came before groups; nothing here creates any."""

    def consistencygroup_get(self, context: Any, consistencygroup_id: str) -> Row:
        raise exception.ConsistencyGroupNotFound(consistencygroup_id=consistencygroup_id)

    def consistencygroup_get_all(self, context: Any, *args: Any, **kwargs: Any) -> list[Row]:
        return []

    def cgsnapshot_get(self, context: Any, cgsnapshot_id: str) -> Row:
        raise exception.CgSnapshotNotFound(cgsnapshot_id=cgsnapshot_id)

    def cgsnapshot_get_all(self, context: Any, filters: JSON | None = None) -> list[Row]:
        return []
