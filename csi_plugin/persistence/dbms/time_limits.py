"""Bounds on what a database server may make its clients wait for: locks, answers, and transactions of a frozen client.

Servers' own defaults are minutes to for ever, and a hung call keeps its thread. A client that was frozen in the middle
of a transaction keeps locks that its successor needs, so the server is asked to end such a transaction.
"""

from collections.abc import Generator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

T = TypeVar("T")

CONNECT_SECONDS = 10
LOCK_SECONDS = 10
IDLE_SECONDS = 15
"""How long a transaction of ours may wait for our next statement."""
ANSWER_SECONDS = 30
"""How long a server may be silent; it ends what waits for a lock long before."""

_INTERVAL = 0.1  # psycopg's own: how often it looks for signals


def connect_arguments(url: sa.URL) -> dict[str, Any]:
    """For the database's driver, unless the URL says otherwise."""
    wanted: dict[str, Any] = {}
    match url.drivername:
        case "postgresql+psycopg":
            # For a host that is gone, which tells nobody: libpq's own bounds, in seconds and milliseconds.
            wanted = {
                "connect_timeout": CONNECT_SECONDS,
                "keepalives_idle": CONNECT_SECONDS,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": ANSWER_SECONDS * 1000,
            }
        case "mysql+pymysql" | "mariadb+pymysql":
            wanted = {
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": ANSWER_SECONDS,
                "write_timeout": ANSWER_SECONDS,
            }
    return {name: value for name, value in wanted.items() if name not in url.query}


def listen(engine: sa.Engine) -> None:
    """Bound the connections that an engine will open."""
    match engine.dialect.name:
        case "postgresql":
            event.listen(engine, "connect", _limit_postgresql)
            if engine.dialect.driver == "psycopg":
                event.listen(engine, "do_connect", _connect_with_limit)
        case "mysql" | "mariadb":
            event.listen(engine, "connect", _limit_mysql)


def _limit_postgresql(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
    cursor.close()
    connection.commit()


def _limit_mysql(connection: Any, record: Any) -> None:
    limits = f"innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}"
    if "MariaDB" in connection.get_server_info():  # MySQL has nothing like it
        limits += f", idle_transaction_timeout = {IDLE_SECONDS}"
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {limits}")


def _connect_with_limit(dialect: sa.Dialect, record: Any, arguments: Any, parameters: Any) -> Any:
    import psycopg

    class LimitedConnection(psycopg.Connection[Any]):
        """libpq has no bound for the answers of a server whose host is alive."""

        def wait(
            self, gen: Generator[Any, Any, T], interval: float = _INTERVAL, timeout: float | None = ANSWER_SECONDS
        ) -> T:
            try:
                return super().wait(gen, interval, timeout)
            except psycopg.OperationalError as error:
                if type(error).__name__ == "_WaitTimeout":
                    self.pgconn.finish()  # whether it did what it was told nobody knows
                    raise psycopg.OperationalError(f"no answer for {timeout} s") from None
                raise

    return LimitedConnection.connect(*arguments, **parameters)
