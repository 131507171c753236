"""Which column keeps which field of a record, and the conversion of values."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from csi_plugin.persistence import records
from csi_plugin.persistence.dbms import tables
from csi_plugin.persistence.dbms.cinder_models import models
from csi_plugin.persistence.encoding import from_json, to_json
from csi_plugin.persistence.records import Intent, Record
from csi_plugin.persistence.sealing import Sealer

SEALED = {"provider_auth": "cinderbox-sealed", "connection_info": '{"sealed": "cinderbox"}'}
"""What Cinder's column holds while the sealed value, which may be longer than the column, is in our table."""


@dataclass(frozen=True)
class Dictionary:
    """A dict field that Cinder keeps as rows of key and value in another table."""

    field: str
    table: sa.Table
    owner: sa.Column[Any]


@dataclass(frozen=True)
class Layout:
    """Where the records of one kind are."""

    kind: type[Record]
    table: sa.Table
    """Cinder's table (or ours that stands for it)."""
    extra: sa.Table
    """Our table beside it, with the same id."""
    id: sa.Column[Any]
    columns: Mapping[str, sa.Column[Any]]
    """Field name to column, in either table; dictionaries and secrets are not among them."""
    decoders: tuple[tuple[str, Callable[[Any], Any]], ...]
    """What turns a column's value into the field's, for fields that need it."""
    secret: str | None
    dictionaries: tuple[Dictionary, ...]

    @property
    def soft_deletes(self) -> bool:
        return "deleted" in self.table.c

    def values(self, record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
        """Column values of a record: those for ``table`` and those for ``extra``, without id and revision."""
        main: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        exact_times: dict[str, str] = {}
        for name, column in self.columns.items():
            value = getattr(record, name)
            (main if column.table is self.table else extra)[column.name] = _to_column(name, value)
            if isinstance(value, datetime) and value.microsecond:
                exact_times[name] = value.isoformat()
        extra["exact_times"] = json.dumps(exact_times, separators=(",", ":")) if exact_times else None
        for name in ("backend", "csi_name"):
            if name in self.extra.c and name not in self.columns:
                extra[name] = getattr(record, name)
        if self.secret:
            value = getattr(record, self.secret)
            sealed = Sealer.is_sealed(value)
            main[self.secret] = SEALED[self.secret] if sealed else _to_column(self.secret, value)
            extra[self.secret] = value if sealed else None
        return main, extra

    def select(self, *, has_extra: bool = True) -> sa.Select[Any]:
        """All columns of the records that are there, in the order that ``record`` expects. ``has_extra``: whether the
        database has our table."""
        return self._selects[has_extra]

    def select_one(self, *, has_extra: bool = True) -> sa.Select[Any]:
        """The same of the one record whose id is the parameter ``record_id``."""
        return self._selects_of_one[has_extra]

    # Statements are kept: SQLAlchemy takes longer to put one together than a database to run it.
    @cached_property
    def update_one(self) -> sa.Update:
        """Of the row in ``table`` of the record that is there, whose id is the parameter ``record_id``."""
        return self.table.update().where(self.id == sa.bindparam("record_id"), *self._is_not_deleted)

    @cached_property
    def update_extra(self) -> sa.Update:
        """Of the row in ``extra`` that has the id and the revision of the parameters ``record_id`` and ``known``."""
        columns = self.extra.c
        return self.extra.update().where(
            columns.id == sa.bindparam("record_id"), columns.revision == sa.bindparam("known")
        )

    @cached_property
    def _selects(self) -> dict[bool, sa.Select[Any]]:
        return {has_extra: self._make_select(has_extra) for has_extra in (True, False)}

    @cached_property
    def _selects_of_one(self) -> dict[bool, sa.Select[Any]]:
        return {key: query.where(self.id == sa.bindparam("record_id")) for key, query in self._selects.items()}

    def _make_select(self, has_extra: bool) -> sa.Select[Any]:
        selected = [self.id, self.extra.c.revision, *self.columns.values(), self.extra.c.exact_times]
        if self.secret:
            selected += [self.table.c[self.secret], self.extra.c[self.secret]]
        source: sa.FromClause = self.table
        values: list[Any] = list(selected)
        if has_extra:
            source = self.table.outerjoin(self.extra, self.extra.c.id == self.id)
        else:
            values = [sa.null() if column.table is self.extra else column for column in selected]
        query = sa.select(*(value.label(f"c{n}") for n, value in enumerate(values))).select_from(source)
        return query.where(*self._is_not_deleted)

    @property
    def _is_not_deleted(self) -> list[sa.ColumnElement[bool]]:
        # Not "= false": an index that begins with the column would win over the one that gives the order.
        return [self.table.c.deleted.is_not(sa.true())] if self.soft_deletes else []

    def position(self, field: str) -> int | None:
        """Where a field stands in the rows of ``select``; None when this kind has no such field."""
        return list(self.columns).index(field) + 2 if field in self.columns else None

    def record(self, row: Any, dictionaries: Mapping[str, dict[str, str]]) -> Any:
        """The record of a row of ``select``. A row that Cinder's layer created, without ours, has revision 1."""
        values = dict(zip(("id", "revision", *self.columns), row, strict=False))
        values["revision"] = 1 if row[1] is None else row[1]
        for name, decode in self.decoders:
            values[name] = decode(values[name])
        for name, exact in json.loads(row[len(self.columns) + 2] or "{}").items():
            moment = datetime.fromisoformat(exact)
            # Another second in the column was written by Cinder's layer, later.
            if values.get(name) == moment.replace(microsecond=0):
                values[name] = moment
        if self.secret:
            plain, sealed = row[-2], row[-1]
            is_sealed = plain == SEALED[self.secret]
            values[self.secret] = sealed if is_sealed else _decoder(self.kind, self.secret)(plain)
        return self.kind(**values | dict(dictionaries))


def _to_column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None, microsecond=0)
    if isinstance(value, Intent):
        return json.dumps(to_json(value), separators=(",", ":"))
    if name in _JSON_FIELDS:
        return json.dumps(value, separators=(",", ":"))
    return value


_JSON_FIELDS = frozenset({"connection_info", "connector", "group_specs", "volume_type_ids", "topology"})


def _from_json_or(default: Callable[[], Any]) -> Callable[[Any], Any]:
    return lambda text: json.loads(text) if text else default()


def _nothing() -> None:
    return None


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "intent": lambda text: from_json(Intent, json.loads(text)) if text else None,
    "connection_info": _from_json_or(_nothing),
    "connector": _from_json_or(_nothing),
    "group_specs": _from_json_or(dict),
    "volume_type_ids": _from_json_or(list),
    "topology": _from_json_or(dict),
    # Columns that may be NULL in old databases, for fields that may not be None.
    "use_quota": lambda value: True if value is None else value,
    "bootable": bool,
    "multiattach": bool,
    "host": lambda value: value or "",
    "backend": lambda value: value or "",
    "public_key": lambda value: value or "",
}

_DECODERS_OF_KIND: dict[tuple[type[Record], str], Callable[[Any], Any]] = {
    # cinderlib leaves it empty, and stores a connection only when it was made.
    (records.ConnectionRecord, "attach_status"): lambda value: value or "attached",
}


def _decoder(kind: type[Record], name: str) -> Callable[[Any], Any]:
    return _DECODERS_OF_KIND.get((kind, name)) or _DECODERS.get(name) or _identity


def _identity(value: Any) -> Any:
    return value


def _aware(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(tzinfo=UTC, microsecond=0)


_BACKEND_OF_SNAPSHOT = "progress"
"""Column of Cinder's snapshots in which cinderlib kept the backend."""


def _layout(
    kind: type[Record], table: sa.Table, extra: sa.Table, dictionaries: tuple[Dictionary, ...] = (), id_name: str = "id"
) -> Layout:
    secret = kind.SECRET[0] if kind.SECRET else None
    columns: dict[str, sa.Column[Any]] = {}
    for field in fields(kind):
        if field.name in {"id", "revision", secret, *(dictionary.field for dictionary in dictionaries)}:
            continue
        name = records.CINDER_NAMES.get(field.name, field.name)
        if (kind, name) == (records.SnapshotRecord, "backend"):
            name = _BACKEND_OF_SNAPSHOT
        columns[field.name] = table.c[name] if name in table.c else extra.c[name]
    decoders = {
        name: _aware if isinstance(column.type, sa.DateTime) else _decoder(kind, name)
        for name, column in columns.items()
    }
    needed = tuple((name, decode) for name, decode in decoders.items() if decode is not _identity)
    return Layout(kind, table, extra, table.c[id_name], columns, needed, secret, dictionaries)


def _table(model: Any) -> sa.Table:
    table: sa.Table = model.__table__
    return table


def _dictionary(field: str, model: Any, owner: str) -> Dictionary:
    return Dictionary(field, _table(model), _table(model).c[owner])


VOLUME_DICTIONARIES = (
    _dictionary("metadata", models.VolumeMetadata, "volume_id"),
    _dictionary("admin_metadata", models.VolumeAdminMetadata, "volume_id"),
    _dictionary("glance_metadata", models.VolumeGlanceMetadata, "volume_id"),
)
TYPE_SPECS = (
    _dictionary("extra_specs", models.VolumeTypeExtraSpecs, "volume_type_id"),
    _dictionary("qos_specs", models.QualityOfServiceSpecs, "specs_id"),
)

LAYOUTS: dict[type[Record], Layout] = {
    layout.kind: layout
    for layout in (
        _layout(records.VolumeRecord, _table(models.Volume), tables.volume, VOLUME_DICTIONARIES + TYPE_SPECS),
        _layout(
            records.SnapshotRecord,
            _table(models.Snapshot),
            tables.snapshot,
            (_dictionary("metadata", models.SnapshotMetadata, "snapshot_id"),),
        ),
        _layout(records.ConnectionRecord, _table(models.VolumeAttachment), tables.connection),
        _layout(records.GroupRecord, _table(models.Group), tables.group),
        _layout(records.GroupSnapshotRecord, _table(models.GroupSnapshot), tables.group_snapshot),
        _layout(records.KeyValueRecord, tables.key_value, tables.key_value_extra, id_name="key"),
        _layout(records.NodeRecord, tables.node, tables.node_extra),
    )
}
