"""Records in a SQL database: our own statements on Cinder's tables, few per operation, one transaction each."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_db import exception as db_exception

from csi_plugin.persistence import initiators
from csi_plugin.persistence.base import (
    PersistenceError,
    RecordExists,
    RecordNotFound,
    RevisionConflict,
    age,
    is_silent_since,
)
from csi_plugin.persistence.builtin_plugin import BuiltinPlugin
from csi_plugin.persistence.dbms import (
    cinder_layer,
    dictionaries,
    node_names,
    ownership,
    related_rows,
    schema,
    tables,
    time_limits,
    volume_types,
)
from csi_plugin.persistence.dbms.engine import create_engine
from csi_plugin.persistence.dbms.errors import DanglingReference, DuplicateRow, database_errors, opening_errors
from csi_plugin.persistence.dbms.fencing import fence_transactions
from csi_plugin.persistence.dbms.layouts import LAYOUTS, TYPE_SPECS, Layout
from csi_plugin.persistence.dbms.lease import DatabaseLease
from csi_plugin.persistence.dbms.related_rows import naive
from csi_plugin.persistence.dbms.time_limits import READ_ONLY
from csi_plugin.persistence.encoding import copy, utc_now
from csi_plugin.persistence.leases import Fence, LeaseTerm, fenced_write
from csi_plugin.persistence.records import ConnectionRecord, GroupRecord, NodeRecord, Record, VolumeRecord
from csi_plugin.process_locks import lock_that_forks_wait_for

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_ATTEMPTS = 10  # a transaction that the server chose as a deadlock's victim is run again
_MOST_VALUES = 500  # in one condition: SQLite allowed 999 parameters for long


class DBPersistence(BuiltinPlugin):
    """Any database of SQLAlchemy's that Cinder supports: SQLite, PostgreSQL, MariaDB or MySQL.

    ``connection`` is a SQLAlchemy URL. ``sqlite_synchronous=False`` trades the safety of the last writes at a
    power cut for speed. ``soft_deletes`` marks rows as deleted, as Cinder does, instead of removing them.
    OpenStack's own database is only read, unless ``take_over`` says that it is given to Cinderbox.
    """

    ATOMIC_ACROSS_PROCESSES = True

    def __init__(
        self,
        connection: str,
        sqlite_synchronous: bool = True,
        soft_deletes: bool = False,
        take_over: bool = False,
    ) -> None:
        super().__init__()
        self.soft_deletes = soft_deletes
        self._engine = create_engine(connection, sqlite_synchronous=sqlite_synchronous, limits=time_limits.USUAL)
        self._reader = self._engine.execution_options(**{READ_ONLY: True})
        # SQLite has one writer at a time: threads queue here rather than in its polling wait. A child that is forked
        # within a write would find the locks held that SQLite keeps for the process.
        is_sqlite = self._engine.dialect.name == "sqlite"
        self._turn: AbstractContextManager[Any] = lock_that_forks_wait_for() if is_sqlite else nullcontext()
        with opening_errors():
            self._is_read_only = not take_over and ownership.is_openstacks(self._engine)
            if self._is_read_only:
                schema.check_readable(self._engine)
                ownership.forbid_writes(self._engine)
            else:
                schema.prepare(self._engine)
            types = volume_types.TYPES
            with self._reader.connect() as reader:
                query = sa.select(types.c.id).where(
                    types.c.name == schema.DEFAULT_TYPE_NAME, types.c.deleted.is_not(sa.true())
                )
                self._default_type_id: str | None = reader.execute(query).scalar_one_or_none()
        self._lease = DatabaseLease(connection, take_over=take_over)
        self._closed = False
        self.activate()

    @property
    def db(self) -> Any:
        """Cinder's own database layer. A process has one; asking a plugin for it points it at the plugin's database."""
        self.activate()
        return cinder_layer.api()

    def activate(self) -> None:
        """Point Cinder's database layer at this database. The plugin that was created last has done so already."""
        cinder_layer.point_at(self._engine, self)

    @fenced_write
    def create(self, record: R) -> R:
        layout = LAYOUTS[type(record)]
        stored = _normalised(record)
        stored.revision = 1
        stored.created_at = stored.created_at or utc_now()
        # The id may be taken by a record, or by a row that is marked as deleted.
        for work in (self._insert, self._revive):
            try:
                if self._write(partial(work, layout=layout, record=stored)):
                    return stored
            except DuplicateRow:
                continue
        raise RecordExists(f"{record.KIND} {record.id} exists")

    @fenced_write
    def update(self, record: R) -> R:
        layout = LAYOUTS[type(record)]
        stored = _normalised(record)
        stored.updated_at = utc_now()
        stored.revision = record.revision + 1
        self._write(lambda connection: self._replace(connection, layout, stored))
        return stored

    @fenced_write
    def delete(self, record: Record) -> None:
        layout = LAYOUTS[type(record)]
        soft = self.soft_deletes and layout.soft_deletes
        remove = self._soft_delete if soft else self._remove
        try:
            self._write(lambda connection: remove(connection, layout, record.id))
        except DanglingReference:
            # Rows that are marked as deleted may still refer to this one.
            self._write(lambda connection: self._remove_deleted_dependants(connection, layout, record.id))
            self._write(lambda connection: remove(connection, layout, record.id))

    def get(self, kind: type[R], record_id: str) -> R | None:
        layout = LAYOUTS[kind]
        query = layout.select_one(has_extra=not self._is_read_only)
        found = self._read(layout, query, {"record_id": record_id})
        # A server that ignores case may have found another one.
        return found[0] if found and found[0].id == record_id else None

    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        layout = LAYOUTS[kind]
        query, order = self._select(layout), layout.id
        wanted = self.wanted_keys(kind, keys)
        if self._is_read_only:
            found = self._read(layout, (query if after is None else query.where(order > after)).order_by(order))
            return [each for each in found if all(getattr(each, name) == wanted[name] for name in wanted)][:limit]
        for name, value in wanted.items():
            column = _key_column(layout, name)
            if column.table is layout.extra:
                order = layout.extra.c.id
            query = query.where(*self._equal(column, value))
        if after is not None:
            query = query.where(order > after)
        query = query.order_by(order)
        return self._read(layout, query if limit is None else query.limit(limit))

    def find_any(self, kind: type[R], key: str, values: Iterable[str]) -> list[R]:
        layout, wanted = LAYOUTS[kind], list(dict.fromkeys(values))
        self.wanted_keys(kind, {key: None})
        if self._is_read_only:
            return [record for record in self.find(kind) if getattr(record, key) in wanted]
        records, keys = self._read_any(layout, _key_column(layout, key), wanted), set(wanted)
        # A server that ignores case may have found others.
        return [record for record in records if getattr(record, key) in keys]

    def in_listing_order(self, records: list[R]) -> list[R]:
        """Newest first, as Cinder's database layer lists them; connections oldest first."""
        return sorted(records, key=age, reverse=not all(isinstance(record, ConnectionRecord) for record in records))

    def recorded_gib(self, *, backend: str) -> dict[str, int]:
        if self._is_read_only:
            return super().recorded_gib(backend=backend)
        layout = LAYOUTS[VolumeRecord]
        query = (
            sa.select(layout.columns["host"], sa.func.sum(layout.columns["size"]))
            .join_from(layout.extra, layout.table, layout.extra.c.id == layout.id)
            .where(*self._equal(layout.extra.c.backend, backend), layout.table.c.deleted.is_not(sa.true()))
            .group_by(layout.columns["host"])
        )
        with database_errors(), self._reader.connect() as connection:
            return {host.partition("#")[2]: int(size) for host, size in connection.execute(query)}

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        if self._is_read_only or not names:
            return []
        with database_errors(), self._reader.connect() as connection:
            ids = node_names.ids_of(connection, names)
        layout, wanted = LAYOUTS[NodeRecord], set(names)
        nodes = sorted(self._read_any(layout, layout.id, ids), key=lambda node: str(node.id))
        return [node for node in nodes if wanted & initiators.names(node.connector)]

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        layout, written = LAYOUTS[NodeRecord], tables.node_extra.c.updated_at
        # Whole seconds are kept, so this is a wider choice.
        old = sa.or_(written <= naive(moment.astimezone(UTC)), written.is_(None))
        found = self._read(layout, layout.select().where(old).order_by(layout.id))
        return [node for node in found if is_silent_since(node, moment)]

    def health(self) -> None:
        if self._closed:
            raise PersistenceError("the store was closed")
        with database_errors(), self._reader.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()
        self._lease.close()

    def use_fence(self, fence: Fence) -> None:
        super().use_fence(fence)
        if fence.epoch:
            fence_transactions(self._engine, fence)

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        return self._lease.acquire_lease(name, holder=holder, seconds=seconds)

    def lease_term(self, name: str) -> LeaseTerm:
        return self._lease.lease_term(name)

    def release_lease(self, name: str, *, holder: str) -> None:
        self._lease.release_lease(name, holder=holder)

    def _insert(self, connection: sa.Connection, layout: Layout, record: Any) -> bool:
        self._choose_type(connection, record)
        main, extra = self._column_values(layout, record)
        connection.execute(layout.table.insert(), main | {layout.id.name: record.id})
        related_rows.insert(connection, layout, record, extra)
        return True

    def _revive(self, connection: sa.Connection, layout: Layout, record: Any) -> bool:
        """Create a record on the row that a soft delete left of its id; False when the id is taken."""
        if connection.execute(sa.select(layout.id).where(*_is_there(layout, record.id))).first():
            return False
        related_rows.remove(connection, layout, record.id)
        self._choose_type(connection, record)
        main, extra = self._column_values(layout, record)
        revived = layout.table.update().where(layout.id == record.id)
        if connection.execute(revived.values(main)).rowcount == 0:
            connection.execute(layout.table.insert(), main | {layout.id.name: record.id})
        related_rows.insert(connection, layout, record, extra)
        return True

    def _replace(self, connection: sa.Connection, layout: Layout, record: Any) -> None:
        self._choose_type(connection, record)
        main, extra = self._column_values(layout, record)
        extra |= related_rows.revisions(record)
        known = {"record_id": record.id, "known": record.revision - 1}
        if connection.execute(layout.update_extra, extra | known).rowcount == 0:
            self._insert_missing_extra(connection, layout, record, extra)
        if connection.execute(layout.update_one, main | {"record_id": record.id}).rowcount == 0:
            raise RecordNotFound(f"{record.KIND} {record.id} does not exist")
        if layout.dictionaries:
            self._replace_dictionaries(connection, layout, record)
        if isinstance(record, GroupRecord):
            volume_types.write_group(connection, record, now=naive(utc_now()))
        elif isinstance(record, NodeRecord):
            node_names.write(connection, record)

    def _insert_missing_extra(
        self, connection: sa.Connection, layout: Layout, record: Record, extra: dict[str, Any]
    ) -> None:
        """Insert our row beside one that Cinder's layer created (revision 1 to us); else say why update fails."""
        current = connection.execute(
            sa.select(layout.extra.c.revision).where(layout.extra.c.id == record.id)
        ).scalar_one_or_none()
        if not connection.execute(sa.select(layout.id).where(*_is_there(layout, record.id))).first():
            raise RecordNotFound(f"{record.KIND} {record.id} does not exist")
        if current is not None or record.revision != 2:
            raise RevisionConflict(f"{record.KIND} {record.id} has revision {current or 1}, not {record.revision - 1}")
        try:
            connection.execute(layout.extra.insert(), extra | {"id": record.id})
        except db_exception.DBDuplicateEntry as error:
            raise RevisionConflict(
                f"{record.KIND} {record.id} was changed by a conflicting concurrent update"
            ) from error

    def _replace_dictionaries(self, connection: sa.Connection, layout: Layout, record: Any) -> None:
        type_id = getattr(record, "volume_type_id", None)
        current = dictionaries.load(connection, layout.kind, [(record.id, type_id)])[record.id]
        for dictionary in layout.dictionaries:
            wanted = getattr(record, dictionary.field)
            if dictionary not in TYPE_SPECS and current[dictionary.field] != wanted:
                connection.execute(dictionary.table.delete().where(dictionary.owner == record.id))
                dictionaries.insert(connection, dictionary, record.id, wanted)
        if isinstance(record, VolumeRecord) and type_id == record.id:
            types = volume_types.TYPES
            is_written = connection.execute(sa.select(types.c.id).where(types.c.id == record.id)).first()
            same = current["extra_specs"] == record.extra_specs and current["qos_specs"] == record.qos_specs
            if not (is_written and same):
                volume_types.delete(connection, record.id)
                volume_types.write(connection, record, now=naive(utc_now()))

    def _remove(self, connection: sa.Connection, layout: Layout, record_id: str) -> None:
        related_rows.remove(connection, layout, record_id)
        connection.execute(layout.table.delete().where(layout.id == record_id))

    def _soft_delete(self, connection: sa.Connection, layout: Layout, record_id: str) -> None:
        now = naive(utc_now())
        values: dict[str, Any] = {"deleted": True, "deleted_at": now}
        if layout.kind is VolumeRecord:
            volume_types.mark_deleted(connection, record_id, now=now)
        elif layout.kind is GroupRecord:
            volume_types.mark_group_deleted(connection, record_id, now=now)
        for dictionary in layout.dictionaries:
            if dictionary not in TYPE_SPECS:
                owned = dictionary.table.update().where(dictionary.owner == record_id)
                connection.execute(owned.values(values))
        if "status" in layout.table.c:
            values["status"] = "deleted"
        if "detach_time" in layout.table.c:
            values |= {"attach_status": "detached", "detach_time": now}
        connection.execute(layout.extra.delete().where(layout.extra.c.id == record_id))
        connection.execute(layout.table.update().where(*_is_there(layout, record_id)).values(values))

    def _remove_deleted_dependants(self, connection: sa.Connection, layout: Layout, record_id: str) -> None:
        """Remove the rows that refer to a record and are marked as deleted."""
        reference = f"{layout.kind.KIND}_id"
        for other in LAYOUTS.values():
            if other.soft_deletes and reference in other.table.c:
                refers = other.table.c[reference] == record_id
                gone = sa.select(other.id).where(refers, other.table.c.deleted.is_(sa.true()))
                for (other_id,) in connection.execute(gone).all():
                    self._remove_deleted_dependants(connection, other, other_id)
                    self._remove(connection, other, other_id)

    def _choose_type(self, connection: sa.Connection, record: Any) -> None:
        """Set volume_type_id to the volume's own id where its specs need a type of their own."""
        if getattr(record, "volume_type_id", None) == self._default_type_id:
            record.volume_type_id = None
        if not isinstance(record, VolumeRecord):
            return
        if not (record.extra_specs or record.qos_specs) or record.volume_type_id == record.id:
            return
        if record.volume_type_id is not None:
            owner = [(record.id, record.volume_type_id)]
            specs = dictionaries.load(connection, VolumeRecord, owner)[record.id]
            if specs["extra_specs"] == record.extra_specs and specs["qos_specs"] == record.qos_specs:
                return
        record.volume_type_id = record.id

    def _column_values(self, layout: Layout, record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
        main, extra = layout.values(record)
        if "volume_type_id" in main:
            main["volume_type_id"] = main["volume_type_id"] or self._default_type_id
        if layout.soft_deletes:
            main |= {"deleted": False, "deleted_at": None}
        return main, extra

    def _equal(self, column: sa.Column[Any], value: str) -> Iterator[sa.ColumnElement[bool]]:
        yield column == value
        if self._engine.dialect.name in ("mysql", "mariadb") and not column.type.compile(self._engine.dialect).endswith(
            "_bin"
        ):
            # Cinder's columns ignore case there: the first condition uses the index, this compares bytes.
            yield sa.cast(column, sa.BINARY) == sa.cast(sa.literal(value, sa.String()), sa.BINARY)

    def _select(self, layout: Layout) -> sa.Select[Any]:
        return layout.select(has_extra=not self._is_read_only)

    def _read(self, layout: Layout, query: sa.Select[Any], parameters: Mapping[str, str] | None = None) -> list[Any]:
        if self._is_read_only and layout.table.name in tables.metadata.tables:
            return []  # a table of ours
        with database_errors(), self._reader.connect() as connection:
            rows = connection.execute(query, parameters).all()
            if not rows:
                return []
            type_position = layout.position("volume_type_id")
            types = [None if type_position is None else row[type_position] for row in rows]
            types = [None if type_id == self._default_type_id else type_id for type_id in types]
            owners = [(row[0], type_id) for row, type_id in zip(rows, types, strict=True)]
            contents = dictionaries.load(connection, layout.kind, owners)
        records = [layout.record(row, contents[row[0]]) for row in rows]
        if type_position is not None:
            for record, type_id in zip(records, types, strict=True):
                record.volume_type_id = type_id
        return records

    def _read_any(self, layout: Layout, column: Any, values: list[str]) -> list[Any]:
        found: list[Any] = []
        for first in range(0, len(values), _MOST_VALUES):
            found += self._read(layout, layout.select().where(column.in_(values[first : first + _MOST_VALUES])))
        return found

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run a unit of work in one transaction; again when the server made it a deadlock's victim."""
        if self._is_read_only:
            raise PersistenceError(ownership.REFUSAL)
        with database_errors():
            give_up_at = time.monotonic() + time_limits.USUAL.lock
            for _ in range(_ATTEMPTS - 1):
                try:
                    with self._turn, self._engine.begin() as connection:
                        return work(connection)
                except (db_exception.DBDeadlock, db_exception.DBConsistencyError):
                    # oslo.db calls it a deadlock, too, when a lock was waited for in vain.
                    if time.monotonic() > give_up_at:
                        raise
            with self._turn, self._engine.begin() as connection:
                return work(connection)


class MemoryDBPersistence(DBPersistence):
    """The same on SQLite in memory: gone with the process, but with a real database for drivers that want one."""

    ATOMIC_ACROSS_PROCESSES = False

    def __init__(self) -> None:
        super().__init__(connection="sqlite://")

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        raise NotImplementedError("a database in memory has no lease: no other process sees it")

    def release_lease(self, name: str, *, holder: str) -> None:
        raise NotImplementedError("a database in memory has no lease: no other process sees it")


def _key_column(layout: Layout, name: str) -> Any:
    column = layout.columns.get(name)
    return layout.extra.c[name] if column is None else column


def _normalised(record: R) -> R:
    """A copy with its datetimes in UTC."""
    stored = copy(record)
    for field in fields(stored):
        value = getattr(stored, field.name)
        if isinstance(value, datetime):
            setattr(stored, field.name, value.astimezone(UTC))
    return stored


def _is_there(layout: Layout, record_id: str) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [layout.id == record_id]
    if layout.soft_deletes:
        conditions.append(layout.table.c.deleted.is_not(sa.true()))
    return conditions
