"""Bounds on what a database server may make its clients wait for: locks, answers, and transactions of a frozen client.

Servers' own defaults are minutes to for ever, and a hung call keeps its thread. A client that was frozen in the middle
of a transaction keeps locks that its successor needs, so the server is asked to end such a transaction.
"""

import os
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from csi_plugin.persistence.base import InvalidPersistence

T = TypeVar("T")

READ_ONLY = "cinderbox_read_only"
"""Execution option: the transaction only reads, so SQLite need not reserve the right to write."""


@dataclass(frozen=True)
class Limits:
    """Seconds."""

    connect: int
    lock: int
    idle: int
    """How long a transaction of ours may wait for our next statement."""
    answer: int
    """How long a server may be silent; it ends what waits for a lock long before."""


USUAL = Limits(connect=10, lock=10, idle=15, answer=30)
LEASE = Limits(connect=3, lock=3, idle=5, answer=5)
"""Of who has to know soon that a renewal failed: a lease may last 10 seconds."""

_INTERVAL = 0.1  # psycopg's own: how often it looks for signals


def connect_arguments(url: sa.URL, dialect: type[sa.Dialect], limits: Limits | None) -> dict[str, Any]:
    """For the database's driver, unless the URL says otherwise; without limits, only a host that is gone is found out.

    Raises InvalidPersistence for a driver that has no bounds.
    """
    connect = (limits or USUAL).connect
    # For a host that is gone, which tells nobody: libpq's own bounds, in seconds and milliseconds.
    libpq = {
        "connect_timeout": connect,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": (limits or USUAL).answer * 1000,
    }
    answer = {"read_timeout": limits.answer, "write_timeout": limits.answer} if limits else {}
    known: dict[str, dict[str, Any]] = {
        # A pooler that gives each transaction another connection of the server's knows no prepared statements.
        "psycopg": libpq | {"prepare_threshold": None},
        "psycopg2": libpq,
        "pymysql": {"connect_timeout": connect} | answer,
        "mysqldb": {"connect_timeout": connect} | answer,
        "mariadbconnector": {"connect_timeout": connect} | answer,
        "mysqlconnector": {"connection_timeout": connect} | answer,
    }
    if dialect.driver not in known:
        raise InvalidPersistence(
            f"connection: {url.drivername} cannot bound how long a silent server is waited for; use sqlite, "
            "postgresql+psycopg, mysql+pymysql or mariadb+pymysql"
        )
    return {name: value for name, value in known[dialect.driver].items() if name not in url.query}


def listen(engine: sa.Engine, limits: Limits) -> None:
    """Bound the connections that an engine will open."""
    match engine.dialect.name:
        case "postgresql":
            _limit_transactions(engine, limits)
            if engine.dialect.driver == "psycopg":
                _connect_psycopg(engine, limits.answer)
            elif engine.dialect.driver == "psycopg2":
                _connect_psycopg2(engine, limits.answer)
        case "mysql" | "mariadb":
            _limit_sessions(engine, limits)


def _limit_transactions(engine: sa.Engine, limits: Limits) -> None:
    """Not sessions: behind a pooler, a session of the server's serves others too. Readers take no locks."""
    settings = f"set_config('lock_timeout', '{limits.lock}s', true)"
    settings += f", set_config('idle_in_transaction_session_timeout', '{limits.idle}s', true)"

    @event.listens_for(engine, "begin")
    def limit(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get(READ_ONLY):
            connection.exec_driver_sql(f"SELECT {settings}")


def _limit_sessions(engine: sa.Engine, limits: Limits) -> None:
    @event.listens_for(engine, "connect")
    def limit(connection: Any, record: Any) -> None:
        settings = f"innodb_lock_wait_timeout = {limits.lock}, lock_wait_timeout = {limits.lock}"
        with closing(connection.cursor()) as cursor:
            cursor.execute("SELECT VERSION()")
            if "MariaDB" in str(cursor.fetchone()[0]):  # MySQL has nothing like it
                settings += f", idle_transaction_timeout = {limits.idle}"
            cursor.execute("SHOW VARIABLES WHERE Variable_name = 'wsrep_on' AND Value = 'ON'")
            if cursor.fetchone():  # Galera: read what was written on any of its servers
                settings += ", wsrep_sync_wait = 7"
            cursor.execute(f"SET SESSION {settings}")


def _connect_psycopg(engine: sa.Engine, seconds: int) -> None:
    import psycopg

    class LimitedConnection(psycopg.Connection[Any]):
        """libpq has no bound for the answers of a server whose host is alive."""

        def wait(self, gen: Generator[Any, Any, T], interval: float = _INTERVAL, timeout: float | None = seconds) -> T:
            try:
                return super().wait(gen, interval, timeout)
            except psycopg.OperationalError as error:
                if type(error).__name__ == "_WaitTimeout":
                    self.pgconn.finish()  # whether it did what it was told nobody knows
                    raise psycopg.OperationalError(f"no answer for {timeout} s") from None
                raise

    @event.listens_for(engine, "do_connect")
    def connect(dialect: sa.Dialect, record: Any, arguments: Any, parameters: Any) -> Any:
        return LimitedConnection.connect(*arguments, **parameters)


def _connect_psycopg2(engine: sa.Engine, seconds: int) -> None:
    from psycopg2 import extensions  # type: ignore[import-untyped]

    @contextmanager
    def limited(connection: Any) -> Iterator[None]:
        timer = threading.Timer(seconds, _shut, [connection])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    class LimitedCursor(extensions.cursor):  # type: ignore[misc]
        def execute(self, query: Any, vars: Any = None) -> None:
            with limited(self.connection):
                super().execute(query, vars)

        def executemany(self, query: Any, vars_list: Any) -> None:
            with limited(self.connection):
                super().executemany(query, vars_list)

    class LimitedConnection(extensions.connection):  # type: ignore[misc]
        """It waits inside of libpq, which a broken socket ends."""

        def cursor(self, *arguments: Any, **parameters: Any) -> Any:
            return super().cursor(*arguments, **{"cursor_factory": LimitedCursor, **parameters})

        def commit(self) -> None:
            with limited(self):
                super().commit()

        def rollback(self) -> None:
            with limited(self):
                super().rollback()

    @event.listens_for(engine, "do_connect")
    def connect(dialect: sa.Dialect, record: Any, arguments: Any, parameters: Any) -> None:
        parameters["connection_factory"] = LimitedConnection


def _shut(connection: Any) -> None:
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as its_socket:
        its_socket.shutdown(socket.SHUT_RDWR)  # it may have been closed meanwhile
