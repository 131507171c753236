"""Database servers as people run them: behind a pooler, with locks that others hold, and those that cannot serve."""

import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from csi_plugin.persistence.base import InvalidPersistence, LeadershipLost, PersistenceError
from csi_plugin.persistence.dbms import DBPersistence, requirements, schema_lock
from csi_plugin.persistence.dbms.engine import plain_engine
from csi_plugin.persistence.dbms.lease import DatabaseLease
from csi_plugin.persistence.dbms.time_limits import USUAL
from csi_plugin.persistence.leases import Fence, LeaseTerm
from csi_plugin.persistence.records import KeyValueRecord
from csi_plugin.persistence.testing import new_id
from csi_plugin.server.serve import EXIT_SETTINGS
from tests.support.certificates import Authority
from tests.support.galera import galera
from tests.support.mariadb import MariaDB
from tests.support.pgbouncer import pooling
from tests.support.polling import wait_until
from tests.support.postgresql import PostgreSQL
from tests.support.serving import Served
from tests.support.sql import execute

READERS = "SELECT name FROM pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'"
LIMITED = "SELECT setting FROM pg_settings WHERE name = 'lock_timeout' AND setting <> '0'"
LOCKS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
PREPARED = "SELECT name FROM pg_prepared_statements"


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(sa.text(query))]
    engine.dispose()
    return found


def test_a_transaction_pooler_keeps_nothing_of_ours(postgresql: PostgreSQL) -> None:
    direct = postgresql.create_database()
    with pooling(postgresql, direct, connections=3) as url:

        def work(number: int) -> list[str]:
            store = DBPersistence(url)
            done = [store.create(KeyValueRecord(id=f"{number}/{count}")).id for count in range(10)]
            store.acquire_lease("leader", holder=str(number), seconds=60)
            store.close()
            return done

        with ThreadPoolExecutor(4) as pool:  # each brings the schema, or waits for another
            done = [record_id for ids in pool.map(work, range(4)) for record_id in ids]
        assert rows(direct, LOCKS) == []
        for _ in range(6):  # each of the pooler's connections
            for left in (READERS, LIMITED, PREPARED):
                assert rows(url, left) == []
    store = DBPersistence(direct)
    assert {record.id for record in store.find(KeyValueRecord)} >= set(done)
    store.close()


def test_galera(tmp_path: Path) -> None:
    """The schema is brought in by two at once, sessions wait for what the cluster has committed, and a late writer's
    transaction has no effect."""
    with galera(tmp_path / "galera") as server:
        url = server.create_database()
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: DBPersistence(url), range(2))
        assert first.acquire_lease("controller", holder="first", seconds=0.1)
        told: list[str] = []
        first.use_fence(Fence("controller", 1, check=lambda: None, overtaken=told.append))
        record = first.create(KeyValueRecord(id=new_id(), value="1"))
        take = partial(second.acquire_lease, "controller", holder="second", seconds=60)
        wait_until(take, lambda: "the lease is held")
        assert second.lease_term("controller") == LeaseTerm(2, predecessor="first")
        with pytest.raises(LeadershipLost, match="term 2"):
            first.update(replace(record, value="2"))
        assert second.get(KeyValueRecord, record.id) == record
        with second._engine.connect() as connection:
            assert connection.execute(sa.text("SELECT @@SESSION.wsrep_sync_wait")).scalar() == 7
        first.close()
        second.close()


@pytest.fixture(params=["mariadb", "postgresql"])
def held(request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[], None]]]:
    """An empty database in which another process holds the schema's lock, and what gives it back."""
    url = request.getfixturevalue(request.param).create_database()
    if request.param == "mariadb":
        lease = DatabaseLease(url)
        assert lease.acquire_lease("schema", holder="another", seconds=600)
        yield url, lambda: lease.release_lease("schema", holder="another")
        lease.close()
        return
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(7268441)"))
        yield url, lambda: connection.execute(sa.text("SELECT pg_advisory_unlock(7268441)")) and None
    engine.dispose()


def test_a_schema_that_another_one_changes_is_waited_for_within_bounds(
    held: tuple[str, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, give_back = held
    monkeypatch.setattr(schema_lock, "WAIT_SECONDS", 0.5)
    with pytest.raises(PersistenceError, match="another process has been changing the database's schema"):
        DBPersistence(url)
    give_back()
    statements: list[str] = []
    sa.event.listen(sa.Engine, "before_cursor_execute", note := lambda *arguments: statements.append(arguments[2]))
    store = DBPersistence(url)
    sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert store.create(KeyValueRecord(id=new_id())).revision == 1
    store.close()
    # Galera has the one on each server alone, or forbids it; a pooler keeps the other.
    assert not [text for text in statements if "GET_LOCK" in text or "pg_advisory_lock" in text]


def without_rights(server: PostgreSQL) -> str:
    url = server.create_database()
    execute(url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC", "DROP ROLE IF EXISTS lesser", "CREATE ROLE lesser LOGIN")
    return url.replace(f"//{server.user}@", "//lesser@")


def without_database(server: PostgreSQL | MariaDB) -> str:
    return server.create_database().replace("/test_", "/no_")


def without_login(server: PostgreSQL) -> str:
    url = server.create_database()
    execute(url, "DROP ROLE IF EXISTS barred", "CREATE ROLE barred NOLOGIN")
    return url.replace(f"//{server.user}@", "//barred@")


def closed(server: PostgreSQL) -> str:
    return server.create_database("ALLOW_CONNECTIONS false")


SQL_ASCII = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
UNUSABLE = {
    "encoding": ("postgresql", lambda server: server.create_database(SQL_ASCII), "encoding is SQL_ASCII"),
    "latin1": ("mariadb", lambda server: server.create_database("CHARACTER SET latin1"), "character set is latin1"),
    "rights": ("postgresql", without_rights, "lacks rights; grant it USAGE and CREATE on the schema"),
    "login": ("postgresql", without_login, "the user, its password or its host is not accepted"),
    "closed": ("postgresql", closed, "it takes no connections: ALTER DATABASE"),
    "no-postgresql": ("postgresql", without_database, "does not exist; create it"),
    "no-mariadb": ("mariadb", without_database, "does not exist; create it"),
    "old-postgresql": ("postgresql", PostgreSQL.create_database, "PostgreSQL .* too old; it must be 99"),
    "old-mariadb": ("mariadb", MariaDB.create_database, "MariaDB .* too old; it must be 99"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_database_that_cannot_serve_is_a_fault_of_settings(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make, message = UNUSABLE[kind]
    url = make(request.getfixturevalue(name))
    if kind.startswith("old"):
        monkeypatch.setattr(requirements, "OLDEST", dict.fromkeys(requirements.OLDEST, (99,)))
    with pytest.raises(InvalidPersistence, match=message):
        DBPersistence(url)
    with pytest.raises(InvalidPersistence, match=message):  # which a server does first
        DatabaseLease(url).acquire_lease("leader", holder="a", seconds=60)


@pytest.mark.root
def test_serve_ends_with_one_error(postgresql: PostgreSQL, tmp_path: Path) -> None:
    persistence = {"storage": "db", "connection": postgresql.create_database(SQL_ASCII)}
    served = Served(tmp_path, mode="controller", persistence=persistence)
    try:
        served.start(wait=False)
        assert served.wait_for_exit() == EXIT_SETTINGS
    finally:
        served.close()
    assert served.log_text().count("encoding is SQL_ASCII") == 1
    assert "Traceback" not in served.log_text()


@pytest.mark.parametrize("tls", [False, True])
def test_connections_to_mariadb_share_what_they_know_of_tls(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Mock(side_effect=ssl.create_default_context)
    monkeypatch.setattr(ssl, "create_default_context", reading)
    authority = Authority(tmp_path / "certificates")
    server = MariaDB(tmp_path, *(f"--ssl-cert={authority.certificate}", f"--ssl-key={authority.key}") if tls else ())
    try:
        engine = plain_engine(server.create_database(), limits=USUAL)
        with engine.connect() as one, engine.connect() as other:
            used = [next(iter(each.execute(sa.text("SHOW STATUS LIKE 'Ssl_cipher'"))))[1] for each in (one, other)]
        engine.dispose()
    finally:
        server.stop()
    assert [bool(cipher) for cipher in used] == [tls, tls]
    assert reading.call_count == 1
