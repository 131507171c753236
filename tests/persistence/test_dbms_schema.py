"""Schemas of databases: made, migrated, taken over from cinderlib, and OpenStack's own, which is left alone."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from cinder.db import migration as cinder_migration

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
from csi_plugin.persistence.dbms import DBPersistence, MemoryDBPersistence, schema
from csi_plugin.persistence.dbms.engine import create_engine
from csi_plugin.persistence.records import (
    RECORD_TYPES,
    ConnectionRecord,
    KeyValueRecord,
    NodeRecord,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.persistence.testing import new_id
from tests.support.processes import run_programs
from tests.support.sql import execute

CINDERLIB = Path(__file__).parent.parent / "data" / "cinderlib-5.2.0"
CINDERLIB_REVISION = "89aa6f9639f9"
CINDER_HEAD = "9c74c1c6971f"


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
    engine = create_engine(url, sqlite_synchronous=True, limits=None)
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
        engine = create_engine(empty_url, sqlite_synchronous=True, limits=None)
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

    def test_four_processes_start_at_once(self, empty_url: str, tmp_path: Path) -> None:
        code = (
            "import uuid\n"
            "from csi_plugin.persistence.dbms import DBPersistence\n"
            "from csi_plugin.persistence.records import VolumeRecord\n"
            f"store = DBPersistence({empty_url!r})\n"
            "store.create(VolumeRecord(id=str(uuid.uuid4())))\n"
        )
        program = tmp_path / "program.py"
        program.write_text(code)
        run_programs(*[(program,)] * 4, folder=tmp_path)
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
