"""What is particular to databases: several processes, soft deletes, and Cinder's own layer on the same tables."""

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cinder import context as cinder_context
from cinder import exception, objects
from cinder.db import api as cinder_db

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError, RecordStore, RevisionConflict
from csi_plugin.persistence.dbms import DBPersistence
from csi_plugin.persistence.records import (
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
from tests.support.processes import run_programs
from tests.support.sql import execute

objects.register_all()


HOLDS_THE_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


def fork_and_create(store: DBPersistence) -> int:
    """The process id of a child that creates a record, and ends with 0 when that went well; a minute at most."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        code = 1
        try:
            store.create(KeyValueRecord(id="child"))
            code = 0
        finally:
            os._exit(code)
    return child


def is_anywhere(function: str) -> bool:
    """Whether a thread is in a function of that name."""
    stacks = [traceback.walk_stack(frame) for frame in sys._current_frames().values()]
    return any(frame.f_code.co_name == function for stack in stacks for frame, _ in stack)


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[DBPersistence]:
    store = DBPersistence(f"sqlite:///{tmp_path}/records.sqlite")
    yield store
    store.close()


@pytest.fixture
def admin() -> cinder_context.RequestContext:
    return cinder_context.get_admin_context()


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


class TestNodes:
    NAME = "50014380186b3f64"

    def test_one_that_an_older_version_wrote_is_found_by_its_name(self, empty_url: str) -> None:
        """As while one is replaced by a newer one: it knows nothing of the table of names."""
        store = DBPersistence(empty_url)
        for name in ("a", "b", "c"):
            store.create(NodeRecord(id=name, connector={"initiator": f"iqn.2026-11.org.example:{name}"}))
        connector = f'{{"initiator":"{self.NAME}"}}'
        execute(empty_url, f"UPDATE cinderbox_node SET connector = '{connector}' WHERE id = 'b'")
        execute(empty_url, "UPDATE cinderbox_node_revision SET revision = revision + 1 WHERE id = 'b'")
        assert [node.id for node in store.nodes_named([self.NAME])] == ["b"]
        assert store.nodes_named(["iqn.2026-11.org.example:b"]) == []
        [node] = store.nodes_named([self.NAME])
        store.update(node)
        assert [node.id for node in store.nodes_named([self.NAME])] == ["b"]
        store.close()

    def test_an_upgrade_finds_those_that_are_there(self, empty_url: str) -> None:
        store = DBPersistence(empty_url)
        store.create(NodeRecord(id="a", connector={"initiator": self.NAME}))
        store.close()
        for statement in (
            "DROP TABLE cinderbox_node_name",
            "DROP INDEX cinderbox_node_revision_updated_at_idx"
            + " ON cinderbox_node_revision" * empty_url.startswith("mysql"),
            "ALTER TABLE cinderbox_node_revision DROP COLUMN named_revision",
            "UPDATE cinderbox_alembic_version SET version_num = '0003'",
        ):
            execute(empty_url, statement)
        store = DBPersistence(empty_url)
        assert [node.id for node in store.nodes_named([self.NAME])] == ["a"]
        store.close()

    def test_names_that_no_database_stores(self, empty_url: str) -> None:
        """A node may say anything of itself."""
        store = DBPersistence(empty_url)
        names = ["n" * 256, "é" * 256, "a ", "a", "\U0001f600", "o'clock"]
        store.create(NodeRecord(id="a", connector={"wwpns": names, "initiator": 7, "nqn": ["x"] * 1000}))
        assert [[node.id for node in store.nodes_named([name])] for name in names] == [["a"]] * len(names)
        store.close()

    def test_silent_ones_are_found_by_the_second(self, empty_url: str) -> None:
        store, old = DBPersistence(empty_url), datetime(2020, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC)
        store.create(NodeRecord(id="old", created_at=old))
        store.update(store.create(NodeRecord(id="heard", created_at=old)))
        assert store.nodes_silent_since(old) == []
        assert [node.id for node in store.nodes_silent_since(old + timedelta(milliseconds=1))] == ["old"]
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

    def test_no_lock_error_under_many_threads_in_two_processes(self, empty_url: str, tmp_path: Path) -> None:
        code = (
            "import itertools, random, time\n"
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
            "    for attempt in itertools.count(1):\n"
            "        counter = store.get(KeyValueRecord, 'counter')\n"
            "        try:\n"
            "            store.update(replace(counter, value=str(int(counter.value) + 1)))\n"
            "            return\n"
            "        except RevisionConflict:\n"
            "            time.sleep(random.uniform(0, min(0.02 * attempt, 0.2)))\n"
            "with ThreadPoolExecutor(32) as pool:\n"
            "    list(pool.map(work, range(32)))\n"
        )
        store = DBPersistence(empty_url)
        store.create(KeyValueRecord(id="counter", value="0"))
        program = tmp_path / "program.py"
        program.write_text(code)
        run_programs((program,), (program,), folder=tmp_path)
        assert store.get(KeyValueRecord, "counter").value == "64"
        assert len(store.find(VolumeRecord)) == 2 * 32 * 3
        store.close()

    def test_a_forked_child_has_connections_of_its_own(self, sqlite_store: DBPersistence) -> None:
        sqlite_store.create(KeyValueRecord(id="parent"))
        child = fork_and_create(sqlite_store)
        assert os.waitpid(child, 0)[1] == 0
        assert {record.id for record in sqlite_store.find(KeyValueRecord)} == {"parent", "child"}

    def test_a_fork_while_another_thread_waits_to_write(self, sqlite_store: DBPersistence, tmp_path: Path) -> None:
        """SQLite keeps locks for the whole process: a child that is forked within a write finds them held for ever."""
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDS_THE_WRITE, tmp_path / "records.sqlite"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        has_forked = threading.Event()

        def let_go() -> None:
            # A fork that waits for the write never comes before this; one that does not wait is given the time to.
            has_forked.wait(1)
            holder.communicate("go on")

        with ThreadPoolExecutor() as pool:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            waiting = pool.submit(sqlite_store.create, KeyValueRecord(id="parent"))
            wait_until(lambda: is_anywhere("do_execute"), lambda: "no thread writes")
            ended = pool.submit(let_go)
            child = fork_and_create(sqlite_store)
            has_forked.set()
            assert os.waitpid(child, 0)[1] == 0
            ended.result()
            waiting.result()
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
            ("oracle://x", "use sqlite, postgresql"),
        ],
    )
    def test_an_unusable_url(self, connection: str, message: str) -> None:
        with pytest.raises(InvalidPersistence, match=message):
            DBPersistence(connection)


def test_a_url_without_its_driver_names_the_one_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(InvalidPersistence, match=r"the extra postgresql has the one of postgresql\+psycopg://"):
        DBPersistence(connection="postgresql+psycopg2://user@localhost/cinderbox")
