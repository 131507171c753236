"""What databases do in the field: connections lost at any moment, servers that go, move, hang, fill and forbid."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from csi_plugin.persistence.base import PersistenceError, RevisionConflict
from csi_plugin.persistence.dbms import DBPersistence, time_limits
from csi_plugin.persistence.dbms.tables import volume as volume_table
from csi_plugin.persistence.records import GroupRecord, KeyValueRecord, Record, VolumeRecord
from csi_plugin.persistence.testing import new_id, samples
from tests.support import databases
from tests.support.databases import Database
from tests.support.polling import wait_until

WRITERS = 4


@pytest.fixture(params=databases.KINDS, scope="module")
def module_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with databases.running(request.param) as database:
        DBPersistence(database.direct_url).close()
        yield database


@pytest.fixture
def database(module_database: Database) -> Iterator[Database]:
    yield module_database
    module_database.cable.mend()
    module_database.cable.target = module_database.server.socket
    module_database.cable.has_broken()


@pytest.fixture
def store(database: Database) -> Iterator[DBPersistence]:
    """Through the cable."""
    store = DBPersistence(database.url)
    yield store
    store.close()


@pytest.fixture
def judge(database: Database) -> Iterator[DBPersistence]:
    store = DBPersistence(database.direct_url)
    yield store
    store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USUAL", "LEASE"):
        monkeypatch.setattr(time_limits, name, time_limits.Limits(connect=1, lock=1, idle=1, answer=1))


def is_done(write: Callable[[], object]) -> bool:
    """Whether a write was done, as it says; anything but a PersistenceError is a fault."""
    try:
        write()
    except PersistenceError:
        return False
    return True


def sample(kind: type[Record]) -> Record:
    return next(record for record in samples() if isinstance(record, kind))


@pytest.mark.parametrize("kind", [VolumeRecord, GroupRecord, KeyValueRecord])
@pytest.mark.parametrize("lose", ["request", "answer"])
def test_connection_lost_in_the_middle_of_each_write(
    database: Database, store: DBPersistence, judge: DBPersistence, kind: type[Record], lose: str
) -> None:
    wanted = sample(kind)
    if isinstance(wanted, VolumeRecord):
        wanted = replace(wanted, group_id=None, source_volid=None, snapshot_id=None)

    def at_every_moment(before: Record | None, write: Callable[[], object], is_after: Callable[[], bool]) -> None:
        requests = 0
        while True:
            database.cable.break_after(requests, lose=lose)
            said_done = is_done(write)
            if not database.cable.has_broken():
                assert said_done
                assert is_after()
                return
            now = judge.get(kind, wanted.id)
            assert is_after() or now == before
            if said_done:
                assert is_after()
            before = _put_back(judge, kind, wanted.id, before)
            requests += 1

    at_every_moment(None, lambda: store.create(wanted), lambda: judge.get(kind, wanted.id) is not None)
    created = judge.get(kind, wanted.id)
    assert created is not None
    changed = replace(created, value="changed") if isinstance(created, KeyValueRecord) else _changed(created)

    def is_changed() -> bool:
        found = judge.get(kind, wanted.id)
        return found is not None and found.revision == created.revision + 1

    # Each time from the same state: a put back record has the revision that `changed` was made from.
    at_every_moment(created, lambda: store.update(changed), is_changed)
    updated = judge.get(kind, wanted.id)
    assert updated is not None
    at_every_moment(updated, lambda: store.delete(updated), lambda: judge.get(kind, wanted.id) is None)


def _changed(record: Record) -> Record:
    if isinstance(record, VolumeRecord):
        return replace(record, size=7, metadata={"changed": "yes"}, extra_specs={"other": "spec"})
    return replace(record, name="changed")


def _put_back(judge: DBPersistence, kind: type[Record], record_id: str, before: Record | None) -> Record | None:
    """The record as it was, but for its times."""
    now = judge.get(kind, record_id)
    if now == before:
        return now
    if now is not None:
        judge.delete(now)
    if before is None:
        return None
    again = judge.create(replace(before, revision=0))
    while again.revision < before.revision:
        again = judge.update(again)
    return judge.get(kind, record_id)


class Writers:
    """Threads that write until they are told to stop; ``done`` has what the store said it holds."""

    def __init__(self, store: DBPersistence) -> None:
        self._store = store
        self._stop = threading.Event()
        self.done: list[str] = []
        self.refused = 0
        self.faults: list[Exception] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(WRITERS)]

    def _run(self) -> None:
        while not self._stop.is_set():
            record = KeyValueRecord(id=new_id(), value="kept")
            try:
                self._store.create(record)
                self.done.append(record.id)
            except PersistenceError:
                self.refused += 1
                self._stop.wait(0.01)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
                self.faults.append(error)
                return

    def wait_for_progress(self) -> None:
        """Until writes are done again."""
        before = len(self.done)
        wait_until(lambda: len(self.done) > before + WRITERS, lambda: (len(self.done), self.refused, self.faults))

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self.faults == []


def test_a_server_that_is_killed_and_comes_back_elsewhere_has_all_that_was_said_to_be_done(
    database: Database, store: DBPersistence, judge: DBPersistence
) -> None:
    """A restart, and a failover to another host that has the same disk: the service's address is another one then."""
    with Writers(store) as writers:
        for _ in range(2):
            writers.wait_for_progress()
            database.server.kill()
            refused = writers.refused
            wait_until(lambda refused=refused: writers.refused > refused, lambda: writers.refused)
            database.server.start()
            writers.wait_for_progress()
        database.cable.target = Path("/nowhere")
        database.cable.mend()
        refused = writers.refused
        wait_until(lambda: writers.refused > refused, lambda: writers.refused)
        database.cable.target = database.server.socket
        writers.wait_for_progress()
    held = {record.id for record in judge.find(KeyValueRecord)}
    assert set(writers.done) <= held


def make_read_only(database: Database, *, on: bool) -> None:
    """For new connections; each stays what it was."""
    if database.is_mariadb:
        database.server.execute(f"SET GLOBAL tx_read_only = {int(on)}")
    else:
        name = sa.make_url(database.direct_url).database
        database.server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {'on' if on else 'off'}")


def test_connections_to_a_server_that_has_become_a_replica_are_given_up(
    database: Database, judge: DBPersistence
) -> None:
    """As after a failover in which the former primary lives on: it answers, and refuses all writes."""
    assert judge.acquire_lease("leader", holder="a", seconds=60)
    record = judge.create(VolumeRecord(id=new_id()))
    make_read_only(database, on=True)
    try:
        store = DBPersistence(database.direct_url)
        assert store.get(VolumeRecord, record.id) == record
        writes = (
            lambda: store.create(VolumeRecord(id=new_id())),
            lambda: store.acquire_lease("leader", holder="a", seconds=60),
        )
        assert not any(map(is_done, writes))
    finally:
        make_read_only(database, on=False)
    for write in writes:
        wait_until(lambda write=write: is_done(write), lambda: "it goes on with the former primary")
    store.delete(record)
    store.close()


@pytest.mark.parametrize(
    ("module_database", "setting"),
    [
        pytest.param("mariadb", "SET GLOBAL innodb_snapshot_isolation = {}", id="mariadb"),  # its default since 11.6
        pytest.param("postgresql", "ALTER DATABASE {name} SET default_transaction_isolation = {}", id="postgresql"),
    ],
    indirect=["module_database"],
)
def test_a_stricter_isolation_refuses_nothing_but_conflicts(
    database: Database, judge: DBPersistence, setting: str
) -> None:
    def set_to(value: str) -> None:
        database.server.execute(setting.format(value, name=sa.make_url(database.direct_url).database))

    set_to("ON" if database.is_mariadb else "'serializable'")
    try:
        store = DBPersistence(database.direct_url)
        store.create(KeyValueRecord(id="counter", value="0"))
        faults: list[Exception] = []

        def count() -> None:
            for _ in range(5):
                while not faults:
                    found = store.get(KeyValueRecord, "counter")
                    assert found is not None
                    try:
                        store.update(replace(found, value=str(int(found.value or "") + 1)))
                        break
                    except RevisionConflict:
                        continue
                    except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
                        faults.append(error)

        threads = [threading.Thread(target=count) for _ in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.close()
    finally:
        set_to("OFF" if database.is_mariadb else "DEFAULT")
    assert faults == []
    counter = judge.get(KeyValueRecord, "counter")
    assert counter is not None
    assert counter.value == str(5 * WRITERS)
    judge.delete(counter)


DRIVERS = ("mariadb+pymysql", "postgresql+psycopg", "postgresql+psycopg2")


@pytest.mark.parametrize(
    ("module_database", "driver"),
    [pytest.param(driver.partition("+")[0], driver, id=driver) for driver in DRIVERS],
    indirect=["module_database"],
)
def test_a_server_that_says_nothing_holds_nobody_up(impatient: None, database: Database, driver: str) -> None:
    url = sa.make_url(database.url).set(drivername=driver)
    store = DBPersistence(url.render_as_string(hide_password=False))
    record = store.create(KeyValueRecord(id=new_id()))
    database.cable.cut()
    for call in (
        store.health,
        lambda: store.find(KeyValueRecord),
        lambda: store.update(record),
        lambda: store.acquire_lease("leader", holder="a", seconds=60),
    ):
        assert not is_done(call)
    database.cable.mend()
    store.health()
    store.delete(record)
    store.close()


def test_a_row_that_another_one_locks_is_waited_for_within_bounds(impatient: None, database: Database) -> None:
    store = DBPersistence(database.url)
    record = store.create(VolumeRecord(id=new_id()))
    engine = sa.create_engine(database.direct_url)
    with engine.begin() as connection:
        connection.execute(sa.select(volume_table).where(volume_table.c.id == record.id).with_for_update())
        assert not is_done(lambda: store.update(replace(record, size=2)))
        assert store.get(VolumeRecord, record.id) == record
    engine.dispose()
    assert store.update(replace(record, size=2)).size == 2
    store.close()


def test_a_transaction_of_a_frozen_client_ends(impatient: None, database: Database) -> None:
    frozen, store = DBPersistence(database.direct_url), DBPersistence(database.url)
    record = store.create(VolumeRecord(id=new_id()))
    with pytest.raises(sa.exc.DBAPIError), frozen._lease._engine.begin() as connection:
        connection.execute(volume_table.update().where(volume_table.c.id == record.id).values(revision=7))
        wait_until(lambda: is_done(lambda: store.update(replace(record, size=2))), lambda: "the row is still locked")
        connection.execute(sa.text("SELECT 1"))
    found = store.get(VolumeRecord, record.id)
    assert found is not None
    assert (found.size, found.revision) == (2, 2)
    frozen.close()
    store.close()


@pytest.fixture(params=["sqlite", *databases.KINDS])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[DBPersistence, Path, Database | None]]:
    """A store on a small disk, and that disk."""
    if request.param == "sqlite":
        disk = tmp_path / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], check=True)
        try:
            store = DBPersistence(f"sqlite:///{disk}/records.sqlite")
            yield store, disk, None
            store.close()
        finally:
            subprocess.run(["umount", disk], check=True)
        return
    with databases.running(request.param, mebibytes=160) as database:
        store = DBPersistence(database.url)
        yield store, database.server.directory, database
        store.close()


@pytest.mark.root
def test_a_full_disk_costs_nothing_that_was_said_to_be_done(
    small: tuple[DBPersistence, Path, Database | None],
) -> None:
    store, disk, database = small
    big = "x" * 20_000
    done = [store.create(VolumeRecord(id=new_id(), metadata={"big": big[:200]}))]
    with databases.full(disk) as fill:
        for _ in range(5000):
            record = VolumeRecord(id=new_id(), intent=None, display_description=big[:250], provider_auth=big[:250])
            if not is_done(lambda record=record: store.create(record)):
                break
            done.append(record)
            fill()
        else:
            raise AssertionError("the disk does not become full")
        if database is None:
            assert len(store.find(VolumeRecord)) == len(done)
    if isinstance(database, Database):
        _start_again_if_it_ended(database)
    created = VolumeRecord(id=new_id())
    wait_until(lambda: is_done(lambda: store.create(created)), lambda: "nothing can be written yet")
    held = {record.id for record in store.find(VolumeRecord)}
    assert held == {record.id for record in done} | {created.id}


def _start_again_if_it_ended(database: Database) -> None:
    """As a service manager does; PostgreSQL ends when it cannot write its log."""
    if database.is_mariadb:
        return
    database.server.stop_if_running()
    database.server.start()


@pytest.fixture(params=["sqlite", *databases.KINDS])
def read_only(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[DBPersistence, Callable[[], None]]]:
    """A store, and what makes it read-only."""
    if request.param == "sqlite":
        yield from _on_damaged_filesystem(tmp_path)
        return
    with databases.running(request.param) as database:
        store = DBPersistence(database.url)

        def forbid() -> None:
            if database.is_mariadb:
                database.server.stop()
                database.server.start("--innodb-read-only")
            else:
                name = database.direct_url.partition("?")[0].rpartition("/")[2]
                database.server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
                database.cable.mend()  # it counts for new connections

        yield store, forbid
        store.close()


def _on_damaged_filesystem(folder: Path) -> Iterator[tuple[DBPersistence, Callable[[], None]]]:
    """An ext4 that the kernel makes read-only, as it does when a disk fails."""
    image, disk = folder / "image", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, disk], check=True)
    try:
        source = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", disk], check=True, capture_output=True, text=True
        ).stdout.strip()
        store = DBPersistence(f"sqlite:///{disk}/records.sqlite")
        yield store, lambda: _write(Path("/sys/fs/ext4") / Path(source).name / "trigger_fs_error")
        store.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def _write(path: Path) -> None:
    path.write_text("1")


@pytest.mark.root
def test_what_is_read_only_is_read(read_only: tuple[DBPersistence, Callable[[], None]]) -> None:
    store, forbid = read_only
    record = store.create(VolumeRecord(id=new_id(), metadata={"a": "b"}))
    forbid()
    for write in (
        lambda: store.create(VolumeRecord(id=new_id())),
        lambda: store.update(replace(record, size=2)),
        lambda: store.delete(record),
    ):
        assert not is_done(write)
    wait_until(lambda: is_done(lambda: store.find(VolumeRecord)), lambda: "it cannot be read")
    assert store.find(VolumeRecord) == [record]


@pytest.mark.parametrize("kind", databases.KINDS)
def test_a_database_whose_clock_jumps_has_one_holder_of_a_lease(kind: str) -> None:
    with databases.running(kind, has_clock=True) as database:
        clock = database.clock
        assert clock is not None
        first, second = DBPersistence(database.direct_url), DBPersistence(database.direct_url)
        assert first.acquire_lease("leader", holder="first", seconds=600)
        assert not second.acquire_lease("leader", holder="second", seconds=600)
        clock.jump(3600)
        assert not second.acquire_lease("leader", holder="second", seconds=600)
        assert first.acquire_lease("leader", holder="first", seconds=1)
        clock.jump(-3600)
        assert not second.acquire_lease("leader", holder="second", seconds=600)
        # It is not renewed any more, and what the clock says does not keep it.
        wait_until(lambda: second.acquire_lease("leader", holder="second", seconds=600), lambda: "it is still held")
        assert not first.acquire_lease("leader", holder="first", seconds=600)
        first.close()
        second.close()
