"""What is particular to databases: schema, upgrades, several processes, Cinder's own layer on the same tables."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from cinder import context as cinder_context
from cinder import exception, objects
from cinder.db import api as cinder_db
from cinder.db import migration as cinder_migration

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError, RecordStore, RevisionConflict
from csi_plugin.persistence.dbms import DBPersistence, MemoryDBPersistence, schema
from csi_plugin.persistence.dbms.engine import create_engine
from csi_plugin.persistence.records import (
    RECORD_TYPES,
    ConnectionRecord,
    Intent,
    KeyValueRecord,
    NodeRecord,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.persistence.testing import new_id, samples
from csi_plugin.storage import database
from tests.support.mariadb import MariaDB
from tests.support.polling import wait_until

CINDERLIB = Path(__file__).parent.parent / "data" / "cinderlib-5.2.0"
CINDERLIB_REVISION = "89aa6f9639f9"
CINDER_HEAD = "9c74c1c6971f"

objects.register_all()


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.sqlite"
    return request.getfixturevalue(request.param).create_database()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[DBPersistence]:
    store = DBPersistence(f"sqlite:///{tmp_path}/records.sqlite")
    yield store
    store.close()


@pytest.fixture
def admin() -> cinder_context.RequestContext:
    return cinder_context.get_admin_context()


def described(url: str) -> dict[str, object]:
    """Tables, columns and indexes of a database, comparable between two."""
    engine = sa.create_engine(url)
    inspector = sa.inspect(engine)
    found = {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)],
            sorted((index["name"], tuple(index["column_names"])) for index in inspector.get_indexes(table)),
        )
        for table in inspector.get_table_names()
        if table.startswith(("cinderbox", "cinderlib"))
    }
    for table in ("volumes", "snapshots", "groups", "group_snapshots"):
        names = (index["name"] for index in inspector.get_indexes(table))
        found[table] = sorted(name for name in names if str(name).startswith("cinderbox"))
    engine.dispose()
    return found


def revision_of(url: str, table: str) -> str:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        return connection.execute(sa.text(f"SELECT version_num FROM {table}")).scalar_one()


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def everything_in(url: str) -> dict[str, list[str]]:
    """All rows of all tables, as text."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        rows = {name: connection.execute(sa.select(table)).all() for name, table in found.tables.items()}
    engine.dispose()
    return {name: sorted(map(repr, content)) for name, content in rows.items()}


def migrate_cinder(url: str, revision: str) -> None:
    engine = create_engine(url, sqlite_synchronous=True)
    cinder_migration.db_sync(version=revision, engine=engine)
    engine.dispose()


class TestSchema:
    def test_the_newest_revisions_are_known(self) -> None:
        assert schema._our_scripts().get_current_head() == schema.HEAD
        assert schema.CINDER_HEAD == schema._cinder_scripts().get_current_head() == CINDER_HEAD

    def test_a_new_database_is_as_one_that_was_migrated(
        self, empty_url: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        if empty_url.startswith("sqlite"):
            migrated = f"sqlite:///{tmp_path}/migrated.sqlite"
        else:
            server = request.getfixturevalue("mariadb" if empty_url.startswith("mysql") else "postgresql")
            migrated = server.create_database()
        migrate_cinder(migrated, CINDERLIB_REVISION)
        for url in (empty_url, migrated):
            DBPersistence(url, take_over=True).close()
            assert revision_of(url, "alembic_version") == CINDER_HEAD
            assert revision_of(url, "cinderbox_alembic_version") == schema.HEAD
        assert described(empty_url) == described(migrated)

    def test_models_and_migrations_of_our_tables_agree(self, empty_url: str) -> None:
        DBPersistence(empty_url).close()
        engine = create_engine(empty_url, sqlite_synchronous=True)
        config = schema._our_config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            alembic.command.check(config)
        engine.dispose()

    def test_a_present_database_is_only_checked(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/records.sqlite"
        DBPersistence(url).close()
        before = (tmp_path / "records.sqlite").read_bytes()
        statements: list[str] = []
        sa.event.listen(sa.Engine, "before_cursor_execute", note := lambda *arguments: statements.append(arguments[2]))
        DBPersistence(url).close()
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
        assert {statement.split()[0] for statement in statements} <= {"BEGIN", "SELECT", "PRAGMA"}, statements
        assert (tmp_path / "records.sqlite").read_bytes() == before

    def test_a_newer_cinder_may_have_upgraded_it(self, empty_url: str) -> None:
        DBPersistence(empty_url).close()
        execute(empty_url, "UPDATE alembic_version SET version_num = 'ffff00000000'")
        DBPersistence(empty_url).close()
        assert revision_of(empty_url, "alembic_version") == "ffff00000000"

    def test_a_newer_cinderbox_is_refused(self, empty_url: str) -> None:
        DBPersistence(empty_url).close()
        execute(empty_url, "UPDATE cinderbox_alembic_version SET version_num = '9999'")
        with pytest.raises(PersistenceError, match="newer Cinderbox"):
            DBPersistence(empty_url)

    def test_a_creation_that_was_interrupted_is_finished(self, empty_url: str) -> None:
        DBPersistence(empty_url).close()
        execute(
            empty_url,
            "UPDATE cinderbox_alembic_version SET version_num = 'creating'",
            "DROP TABLE alembic_version",
            "DROP TABLE cinderbox_node",
            "DELETE FROM volume_types",
        )
        store = DBPersistence(empty_url)
        assert store.create(VolumeRecord(id=new_id())).revision == 1
        assert store.create(NodeRecord(id="node")).revision == 1
        store.close()

    def test_four_processes_start_at_once(self, empty_url: str) -> None:
        code = (
            "import sys, uuid\n"
            "from csi_plugin.persistence.dbms import DBPersistence\n"
            "from csi_plugin.persistence.records import VolumeRecord\n"
            "sys.stdin.readline()\n"
            f"store = DBPersistence({empty_url!r})\n"
            "store.create(VolumeRecord(id=str(uuid.uuid4())))\n"
        )
        with_pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], **with_pipes) for _ in range(4)]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors
        store = DBPersistence(empty_url)
        assert len(store.find(VolumeRecord)) == 4
        store.close()

    def test_memory_databases_are_apart(self) -> None:
        first, second = MemoryDBPersistence(), MemoryDBPersistence()
        first.create(KeyValueRecord(id="key"))
        assert second.find(KeyValueRecord) == []


class TestOpenStacksDatabase:
    """Cinder's tables, and none of ours or cinderlib's."""

    VOLUME = "10000000-0000-4000-8000-000000000000"

    def test_it_is_read_and_nothing_is_written(self, empty_url: str) -> None:
        migrate_cinder(empty_url, CINDER_HEAD)
        execute(
            empty_url,
            "INSERT INTO volumes (id, host, size, status, use_quota, deleted, volume_type_id) "
            f"SELECT '{self.VOLUME}', 'h@lvm#p', 3, 'available', true, false, id FROM volume_types "
            "WHERE name = '__DEFAULT__'",
            'INSERT INTO services (host, "binary", topic, report_count, disabled, deleted) '
            "VALUES ('h@lvm', 'cinder-volume', 'cinder-volume', 7, false, false)".replace(
                '"', "`" if empty_url.startswith("mysql") else '"'
            ),
        )
        before = everything_in(empty_url)
        store = DBPersistence(empty_url)
        [volume] = store.find(VolumeRecord, backend="lvm")
        assert (volume.id, volume.size, volume.intent) == (self.VOLUME, 3, None)
        assert store.get(VolumeRecord, self.VOLUME) == volume
        for kind in RECORD_TYPES:
            assert store.find(kind, limit=1) == ([volume] if kind is VolumeRecord else [])
        with pytest.raises(PersistenceError, match="OpenStack's own"):
            store.create(KeyValueRecord(id="key"))
        with pytest.raises(PersistenceError, match="OpenStack's own"):
            store.update(replace(volume, size=4))
        with pytest.raises(PersistenceError, match="take_over"):
            store.delete(volume)
        with pytest.raises(InvalidPersistence, match="OpenStack's own"):
            store.acquire_lease("leader", holder="a", seconds=60)
        # In the server's own words.
        with pytest.raises(Exception, match=r"(?i)read.?only"), store._engine.begin() as connection:
            connection.execute(sa.text("UPDATE volumes SET size = 5"))
        store.close()
        assert everything_in(empty_url) == before

    def test_an_older_one_is_not_upgraded(self, empty_url: str) -> None:
        migrate_cinder(empty_url, CINDERLIB_REVISION)
        before = everything_in(empty_url)
        with pytest.raises(InvalidPersistence, match="of another release"):
            DBPersistence(empty_url)
        assert everything_in(empty_url) == before

    def test_a_person_gives_it_to_us(self, empty_url: str) -> None:
        migrate_cinder(empty_url, CINDER_HEAD)
        store = DBPersistence(empty_url, take_over=True)
        store.create(KeyValueRecord(id="key"))
        store.close()
        again = DBPersistence(empty_url)  # it is ours now
        assert again.get(KeyValueRecord, "key")
        assert again.acquire_lease("leader", holder="a", seconds=60)
        again.close()


class TestUpgradeFromCinderlib:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        path = tmp_path / "cinderlib.sqlite"
        with sqlite3.connect(path) as connection:
            connection.executescript((CINDERLIB / "database.sql").read_text())
            connection.execute("UPDATE volumes SET use_quota = NULL WHERE display_name = 'first'")
        connection.close()
        return f"sqlite:///{path}"

    def test_everything_is_found(self, url: str) -> None:
        assert revision_of(url, "alembic_version") == CINDERLIB_REVISION
        store = DBPersistence(url)
        assert revision_of(url, "alembic_version") == CINDER_HEAD
        volumes = {volume.display_name: volume for volume in store.find(VolumeRecord, backend="legacy")}
        assert set(volumes) == {"first", "typed", "restored", "cloned"}
        first, typed = volumes["first"], volumes["typed"]
        assert (first.size, first.use_quota, first.status, first.revision) == (2, True, "in-use", 1)
        assert first.provider_auth == "CHAP olduser oldsecret"
        assert typed.extra_specs == {"compression": "on"}
        assert typed.metadata == {"owner": "app"}
        assert typed.volume_type_id == typed.id
        assert volumes["cloned"].source_volid == typed.id
        [snapshot] = store.find(SnapshotRecord, volume_id=first.id)
        assert (snapshot.display_name, snapshot.backend, snapshot.volume_size) == ("snap1", "legacy", 2)
        assert store.find(VolumeRecord, snapshot_id=snapshot.id) == [volumes["restored"]]
        [connection] = store.find(ConnectionRecord, volume_id=first.id)
        assert connection.attach_status == "attached"
        assert connection.connection_info["conn"]["data"]["auth_password"] == "oldsecret"
        assert connection.connector["host"] == "node1"
        assert store.get(KeyValueRecord, "setting") == KeyValueRecord(id="setting", value="a value", revision=1)
        store.close()

    def test_everything_can_be_changed_and_sealed(self, url: str) -> None:
        plugin = DBPersistence(url)
        store = SealingStore(plugin, Sealer([b"k" * 32]))
        for kind in (VolumeRecord, SnapshotRecord, ConnectionRecord, KeyValueRecord):
            for record in store.find(kind):
                updated = store.update(record)
                assert updated == replace(record, revision=2, updated_at=updated.updated_at)
                assert store.get(kind, record.id) == updated
        [typed] = store.find(VolumeRecord, display_name="typed")
        typed = store.update(replace(typed, qos_specs={"maxIOPS": "500"}))
        assert store.get(VolumeRecord, typed.id) == typed
        store.close()
        dump = "\n".join(sqlite3.connect(url.removeprefix("sqlite:///")).iterdump())
        assert "oldsecret" not in dump
        again = DBPersistence(url)
        for kind in (ConnectionRecord, SnapshotRecord, VolumeRecord, KeyValueRecord):
            for record in again.find(kind):
                again.delete(record)
            assert again.find(kind) == []
        again.close()

    def test_on_mariadb(self, mariadb) -> None:
        url = mariadb.create_database("CHARACTER SET utf8mb3")
        migrate_cinder(url, CINDERLIB_REVISION)
        volume_id = new_id()
        execute(
            url,
            "CREATE TABLE cinderlib_persistence_key_value (`key` VARCHAR(255) PRIMARY KEY, value TEXT)",
            "INSERT INTO cinderlib_persistence_key_value VALUES ('setting', 'a value')",
            f"INSERT INTO volumes (id, host, size, volume_type_id, deleted, use_quota) "
            f"VALUES ('{volume_id}', 'h@legacy#p', 3, '{volume_id}', false, NULL)",
        )
        store = DBPersistence(url)
        [volume] = store.find(VolumeRecord, backend="legacy")
        assert (volume.id, volume.size, volume.use_quota) == (volume_id, 3, True)
        assert store.update(volume).revision == 2
        setting = store.get(KeyValueRecord, "setting")
        assert setting.value == "a value"
        assert store.create(KeyValueRecord(id="Setting", value="x" * 100_000)).revision == 1
        assert store.get(KeyValueRecord, "setting") == setting
        store.close()


@pytest.fixture
def cinder_layer() -> None:
    """A library that this process used before may have left a store in place of Cinder's layer."""
    database.use_cinder_layer()


@pytest.mark.usefixtures("cinder_layer")
class TestCinderLayer:
    def test_drivers_find_volumes_with_their_type(self, sqlite_store: DBPersistence, admin) -> None:
        group, volume, group_snapshot, snapshot, connection, *_ = [sqlite_store.create(r) for r in samples()]
        found = objects.Volume.get_by_id(admin, volume.id)
        assert found.name_id == volume.name_id
        assert found.provider_auth == volume.provider_auth
        assert found.volume_type.extra_specs == volume.extra_specs
        assert found.volume_type.qos_specs.specs == volume.qos_specs
        assert found.metadata == volume.metadata
        assert found.admin_metadata == volume.admin_metadata
        assert found.group.name == group.name
        assert [s.id for s in objects.SnapshotList.get_all_for_volume(admin, volume.id)] == [snapshot.id]
        assert found.volume_attachment[0].connection_info == connection.connection_info
        assert objects.GroupSnapshot.get_by_id(admin, group_snapshot.id).name == group_snapshot.name
        assert objects.VolumeType.get_by_id(admin, volume.id).name == volume.id
        assert sqlite_store.db.volume_get_all_by_host(admin, "host@lvm")[0].id == volume.id

    def test_what_a_driver_saves_is_in_the_record(self, sqlite_store: DBPersistence, admin) -> None:
        volume = sqlite_store.create(VolumeRecord(id=new_id()))
        found = objects.Volume.get_by_id(admin, volume.id)
        found.provider_location = "there"
        found.host = "host@other#pool"
        found.admin_metadata = {"key": "value"}
        found.save()
        assert sqlite_store.get(VolumeRecord, volume.id).provider_location == "there"
        assert sqlite_store.get(VolumeRecord, volume.id).admin_metadata == {"key": "value"}
        assert [record.id for record in sqlite_store.find(VolumeRecord, backend="other")] == [volume.id]

    def test_a_volume_that_cinder_made_is_a_record(self, sqlite_store: DBPersistence, admin) -> None:
        created = objects.Volume(admin, host="h@b#p", size=1, volume_type_id=sqlite_store._default_type_id)
        created.create()
        record = sqlite_store.get(VolumeRecord, created.id)
        assert (record.revision, record.size, record.volume_type_id) == (1, 1, None)
        assert sqlite_store.find(VolumeRecord, backend="b") == [record]
        intent = Intent(name="adopted")
        assert sqlite_store.update(replace(record, intent=intent)).revision == 2
        with pytest.raises(RevisionConflict):
            sqlite_store.update(record)
        assert sqlite_store.find(VolumeRecord, csi_name="adopted")[0].intent == intent

    def test_a_row_without_one_of_ours_is_a_record_too(self, sqlite_store: DBPersistence) -> None:
        created = sqlite_store.create(VolumeRecord(id=new_id(), display_name="name"))
        with sqlite_store._engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM cinderbox_volume"))
        [found] = sqlite_store.find(VolumeRecord, display_name="name")
        assert created.created_at
        assert found == replace(created, created_at=created.created_at.replace(microsecond=0))  # ours has the rest
        assert sqlite_store.update(found).revision == 2
        with pytest.raises(RevisionConflict):
            sqlite_store.update(found)

    @pytest.mark.parametrize("backend", ["sqlite", "mariadb"])
    def test_secrets_are_clear_to_drivers_and_sealed_in_the_tables(
        self, backend: str, request: pytest.FixtureRequest, admin
    ) -> None:
        plugin = request.getfixturevalue(f"make_{backend}")()
        store = SealingStore(plugin, Sealer([b"k" * 32]))
        _, volume, _, snapshot, connection, *_ = [store.create(record) for record in samples()]

        found = objects.Volume.get_by_id(admin, volume.id)
        assert found.provider_auth == volume.provider_auth
        assert objects.Snapshot.get_by_id(admin, snapshot.id).provider_auth == snapshot.provider_auth
        attachment = objects.VolumeAttachment.get_by_id(admin, connection.id)
        assert attachment.connection_info == connection.connection_info
        assert cinder_db.volume_get_all(admin)[0].provider_auth == volume.provider_auth

        found.provider_auth = "CHAP user newpassword" * 10  # longer than Cinder's column
        found.save()
        assert store.get(VolumeRecord, volume.id).provider_auth == "CHAP user newpassword" * 10
        assert objects.Volume.get_by_id(admin, volume.id).provider_auth == "CHAP user newpassword" * 10
        attachment.connection_info = {"data": {"auth_password": "newpassword"}}
        attachment.save()
        assert store.get(ConnectionRecord, connection.id).connection_info == {"data": {"auth_password": "newpassword"}}
        made = objects.Volume(admin, size=1, volume_type_id=plugin._default_type_id, provider_auth="newpassword")
        made.create()
        assert store.get(VolumeRecord, made.id).provider_auth == "newpassword"

        with plugin._engine.connect() as connection_:
            for table in ("volumes", "snapshots", "volume_attachment", "cinderbox_volume", "cinderbox_connection"):
                for row in connection_.execute(sa.text(f"SELECT * FROM {table}")):
                    assert "password" not in str(row).replace("auth_password", "")
        store.close()

    def test_two_databases_at_once_and_cinder_uses_the_activated_one(self, tmp_path: Path, admin) -> None:
        first = DBPersistence(f"sqlite:///{tmp_path}/first.sqlite")
        second = DBPersistence(f"sqlite:///{tmp_path}/second.sqlite")
        one, two = first.create(VolumeRecord(id=new_id())), second.create(VolumeRecord(id=new_id()))
        assert first.find(VolumeRecord) == [one]
        assert second.find(VolumeRecord) == [two]
        for store, mine, other in ((second, two, one), (first, one, two), (second, two, one)):
            store.activate()
            assert objects.Volume.get_by_id(admin, mine.id).id == mine.id
            with pytest.raises(exception.VolumeNotFound):
                objects.Volume.get_by_id(admin, other.id)
            assert store.db is cinder_db
        first.close()
        second.close()

    def test_cinder_and_records_from_many_threads(self, sqlite_store: DBPersistence) -> None:
        volume = sqlite_store.create(VolumeRecord(id=new_id()))

        def work(number: int) -> None:
            admin = cinder_context.get_admin_context()
            for _ in range(3):
                found = objects.Volume.get_by_id(admin, volume.id)
                found.display_description = str(number)
                found.save()
                sqlite_store.create(VolumeRecord(id=new_id()))

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(work, range(32)))
        assert len(sqlite_store.find(VolumeRecord)) == 3 * 32 + 1


class TestSoftDeletes:
    def test_rows_stay_and_the_id_can_be_used_again(self, empty_url: str) -> None:
        store = DBPersistence(empty_url, soft_deletes=True)
        for _ in range(2):
            created = [store.create(record) for record in samples()]
            for record in reversed(created):
                store.delete(record)
                assert store.get(type(record), record.id) is None
                assert store.find(type(record)) == []
            for record in created:
                assert store.create(replace(record, revision=0)).revision == 1
            for record in reversed(created):
                store.delete(record)
        with store._engine.connect() as connection:
            for table in ("volumes", "snapshots", "volume_attachment", "volume_admin_metadata", "volume_types"):
                count = f"SELECT count(*) FROM {table} WHERE deleted AND deleted_at IS NOT NULL"
                assert connection.execute(sa.text(count)).scalar_one() == 2, table
        store.close()

    def test_rows_are_removed_otherwise(self, empty_url: str) -> None:
        soft = DBPersistence(empty_url, soft_deletes=True)
        volume = soft.create(VolumeRecord(id=new_id(), metadata={"a": "b"}, extra_specs={"a": "b"}))
        soft.delete(soft.create(SnapshotRecord(id=new_id(), volume_id=volume.id)))
        soft.close()
        store = DBPersistence(empty_url)
        store.delete(volume)
        with store._engine.connect() as connection:
            for table in ("volumes", "volume_metadata", "volume_type_extra_specs", "cinderbox_volume"):
                assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() == 0, table
        store.close()


class TestOperations:
    def test_few_statements(self, sqlite_store: DBPersistence) -> None:
        statements: list[str] = []
        sa.event.listen(
            sqlite_store._engine, "before_cursor_execute", lambda *args: statements.append(args[2]), named=False
        )

        def count(work: Callable[[], object]) -> int:
            statements.clear()
            work()
            return len([statement for statement in statements if not statement.startswith("BEGIN")])

        volume = VolumeRecord(id=new_id(), intent=Intent(name="name"), metadata={"a": "b"})
        assert count(lambda: sqlite_store.create(volume)) == 3
        assert count(lambda: sqlite_store.get(VolumeRecord, volume.id)) == 2
        assert count(lambda: sqlite_store.update(replace(volume, revision=1))) == 3
        for _ in range(100):
            sqlite_store.create(VolumeRecord(id=new_id(), extra_specs={"a": "b"}))
        assert count(lambda: sqlite_store.find(VolumeRecord, limit=100)) == 3
        assert count(sqlite_store.health) == 1

    def test_pages_and_lookups_use_indexes(self, sqlite_store: DBPersistence) -> None:
        queries: list[tuple[str, object]] = []
        sa.event.listen(sqlite_store._engine, "before_cursor_execute", lambda *args: queries.append((args[2], args[3])))
        keys = ("backend", "display_name", "csi_name", "source_volid", "snapshot_id")  # a group's are few, and sorted
        for arguments in ({}, *({key: "value"} for key in keys)):
            queries.clear()
            sqlite_store.find(VolumeRecord, after="a", limit=10, **arguments)
            statement, parameters = queries[-1]
            with sqlite_store._engine.connect() as connection:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            details = [row[3] for row in plan]
            assert all(detail.startswith("SEARCH") for detail in details), (arguments, details)

    def test_a_lease_ends_by_itself(self, empty_url: str) -> None:
        first, second = DBPersistence(empty_url), DBPersistence(empty_url)
        assert first.acquire_lease("leader", holder="first", seconds=1)
        assert not second.acquire_lease("leader", holder="second", seconds=60)
        wait_until(lambda: second.acquire_lease("leader", holder="second", seconds=60), lambda: "it is still held")
        assert not first.acquire_lease("leader", holder="first", seconds=60)
        second.release_lease("leader", holder="second")
        assert first.acquire_lease("leader", holder="first", seconds=60)
        first.close()
        second.close()

    def test_a_lease_of_an_earlier_version_ends_too(self, empty_url: str) -> None:
        execute(
            empty_url,
            "CREATE TABLE cinderbox_lease (name VARCHAR(255) PRIMARY KEY, holder VARCHAR(255) NOT NULL, "
            "expires_at DOUBLE PRECISION NOT NULL)",
            "INSERT INTO cinderbox_lease VALUES ('leader', 'first', 1)",
        )
        store = DBPersistence(empty_url)
        assert not store.acquire_lease("leader", holder="second", seconds=1)
        wait_until(lambda: store.acquire_lease("leader", holder="second", seconds=1), lambda: "it is still held")
        store.close()

    def test_no_lock_error_under_many_threads_in_two_processes(self, empty_url: str) -> None:
        code = (
            "import sys\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "from dataclasses import replace\n"
            "from csi_plugin.persistence.dbms import DBPersistence\n"
            "from csi_plugin.persistence.records import KeyValueRecord, VolumeRecord\n"
            "from csi_plugin.persistence.base import RevisionConflict\n"
            "from csi_plugin.persistence.testing import new_id\n"
            f"store = DBPersistence({empty_url!r})\n"
            "def work(number):\n"
            "    for _ in range(3):\n"
            "        volume = store.create(VolumeRecord(id=new_id(), metadata={'a': 'b'}))\n"
            "        store.update(replace(volume, status='available'))\n"
            "        store.find(VolumeRecord, limit=10)\n"
            "    while True:\n"
            "        counter = store.get(KeyValueRecord, 'counter')\n"
            "        try:\n"
            "            store.update(replace(counter, value=str(int(counter.value) + 1)))\n"
            "            return\n"
            "        except RevisionConflict:\n"
            "            pass\n"
            "with ThreadPoolExecutor(32) as pool:\n"
            "    list(pool.map(work, range(32)))\n"
        )
        store = DBPersistence(empty_url)
        store.create(KeyValueRecord(id="counter", value="0"))
        processes = [
            subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors
        assert store.get(KeyValueRecord, "counter").value == "64"
        assert len(store.find(VolumeRecord)) == 2 * 32 * 3
        store.close()

    def test_a_forked_child_has_connections_of_its_own(self, sqlite_store: DBPersistence) -> None:
        sqlite_store.create(KeyValueRecord(id="parent"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sqlite_store.create(KeyValueRecord(id="child"))
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert {record.id for record in sqlite_store.find(KeyValueRecord)} == {"parent", "child"}

    def test_a_server_that_went_away(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        server = MariaDB(tmp_path_factory.mktemp("mariadb"))
        store: RecordStore = DBPersistence(server.create_database())
        store.health()
        server.stop()
        with pytest.raises(PersistenceError):
            store.health()
        with pytest.raises(PersistenceError) as caught:
            store.create(VolumeRecord(id=new_id(), provider_auth="CHAP user S3cret"))
        assert "S3cret" not in str(caught.value)

    def test_dangling_references_are_refused(self, make_mariadb: Callable[[], DBPersistence]) -> None:
        store = make_mariadb()
        with pytest.raises(PersistenceError, match="refers to"):
            store.create(SnapshotRecord(id=new_id(), volume_id=new_id()))
        volume = store.create(VolumeRecord(id=new_id()))
        with pytest.raises(PersistenceError, match="refers to"):
            store.update(replace(volume, group_id=new_id()))
        snapshot = store.create(SnapshotRecord(id=new_id(), volume_id=volume.id))
        with pytest.raises(PersistenceError, match="refers to"):
            store.delete(volume)
        store.delete(snapshot)
        store.delete(volume)
        store.close()

    def test_errors_do_not_show_values(self, make_mariadb: Callable[[], DBPersistence]) -> None:
        store = make_mariadb()
        with pytest.raises(PersistenceError) as caught:
            store.create(VolumeRecord(id=new_id(), provider_auth="S3cret" * 100))
        assert "S3cret" not in str(caught.value)
        assert "provider_auth" in str(caught.value)
        assert store.find(VolumeRecord) == []

    def test_a_sqlite_file_is_read_by_its_owner_alone(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        before = os.umask(0o022)
        try:
            store = DBPersistence(f"sqlite:///{tmp_path}/records.sqlite")
            store.create(VolumeRecord(id=new_id(), provider_auth="CHAP user password"))
        finally:
            os.umask(before)
        files = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        store.close()
        assert files == {f"records.sqlite{end}": 0o600 for end in ("", "-wal", "-shm", ".lock")}
        assert "others may read" not in caplog.text
        (tmp_path / "records.sqlite").chmod(0o644)
        DBPersistence(f"sqlite:///{tmp_path}/records.sqlite").close()
        assert f"{tmp_path}/records.sqlite has mode 0644: others may read the passwords in it" in caplog.text

    def test_another_process_takes_no_commits_of_a_sqlite_file_away(self, tmp_path: Path) -> None:
        """A process's locks on a file go with the first of its descriptors that is closed."""
        file = tmp_path / "records.sqlite"
        store = DBPersistence(f"sqlite:///{file}")
        DBPersistence(f"sqlite:///{file}").close()
        query = "SELECT key FROM cinderlib_persistence_key_value"
        code = f"import sqlite3; c = sqlite3.connect('{file}'); print(c.execute('{query}').fetchall()); c.close()"
        read = [sys.executable, "-c", code]
        subprocess.run(read, check=True, capture_output=True)
        store.create(KeyValueRecord(id="kept"))
        assert "kept" in subprocess.run(read, check=True, capture_output=True, text=True).stdout
        store.close()

    @pytest.mark.parametrize(
        ("connection", "message"),
        [
            ("nonsense", "SQLAlchemy database URL"),
            ("nodb://host/x", "SQLAlchemy database URL"),
            ("oracle://x", "driver"),
        ],
    )
    def test_an_unusable_url(self, connection: str, message: str) -> None:
        with pytest.raises(InvalidPersistence, match=message):
            DBPersistence(connection)
