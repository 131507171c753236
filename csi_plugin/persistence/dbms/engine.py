"""Engines for SQLite, PostgreSQL and MariaDB/MySQL that many threads and processes can share."""

import os
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from csi_plugin.known_secrets import keep_secret
from csi_plugin.persistence.base import InvalidPersistence
from csi_plugin.persistence.dbms import former_primary, requirements, sqlite_file, time_limits, tls_context
from csi_plugin.persistence.dbms.time_limits import READ_ONLY, Limits

BUSY_SECONDS = 60
"""How long a SQLite connection waits for another process's write to end."""
_POOL_SIZE = 16
_POOL_OVERFLOW = 64  # every gRPC worker and backend worker may need one at once


def create_engine(connection: str, *, sqlite_synchronous: bool, limits: Limits | None) -> sa.Engine:
    """An engine that Cinder's layer can use too; without ``limits``, it waits as long as it takes.

    Raises InvalidPersistence for a URL that SQLAlchemy does not understand, and for a file that cannot be a database.
    """
    from oslo_db.sqlalchemy import exc_filters  # takes half a second to import

    engine = plain_engine(connection, sqlite_synchronous=sqlite_synchronous, limits=limits)
    exc_filters.register_engine(engine)  # Cinder's layer expects oslo.db's exceptions
    return engine


def plain_engine(connection: str, *, sqlite_synchronous: bool = True, limits: Limits | None) -> sa.Engine:
    """An engine with SQLAlchemy's own exceptions. Raises InvalidPersistence as create_engine()."""
    try:
        url = sa.make_url(connection)
        keep_secret([str(url.password or "")])
        dialect = url.get_dialect()
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise InvalidPersistence("connection must be a SQLAlchemy database URL") from error
    arguments: dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": _POOL_SIZE,
        "max_overflow": _POOL_OVERFLOW,
        "pool_timeout": BUSY_SECONDS,
        "hide_parameters": True,  # errors are logged, and parameters hold secrets
    }
    if dialect.name == "sqlite":
        arguments["connect_args"] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        if is_memory(url):
            # The database lives as long as its one connection; who wants it waits for it.
            arguments |= {"pool_size": 1, "max_overflow": 0}
        else:
            sqlite_file.prepare(url)
    else:
        arguments |= {"pool_pre_ping": True, "pool_recycle": 3600}
        arguments["connect_args"] = time_limits.connect_arguments(url, dialect, limits)
        if dialect.name == "postgresql":
            # A database's own default may be one that refuses what runs beside each other. Each write compares anyway.
            arguments["isolation_level"] = "READ COMMITTED"
    try:
        engine = sa.create_engine(url, **arguments)
    except ImportError as error:
        hint = "; the extra postgresql has the one of postgresql+psycopg://" if dialect.name == "postgresql" else ""
        raise InvalidPersistence(f"the driver for {url.drivername} is not installed: {error}{hint}") from error
    requirements.check_at_first_connection(engine)
    _listen(engine, sqlite_synchronous=sqlite_synchronous)
    tls_context.share(engine)
    if dialect.name != "sqlite":
        former_primary.give_up_its_connections(engine)
    if limits is not None:
        time_limits.listen(engine, limits)
    if not is_memory(url):
        forget = weakref.WeakMethod(engine.dispose)
        os.register_at_fork(after_in_child=lambda: _forget_connections(forget))
    return engine


@contextmanager
def patient_engine(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Another engine for the same database, without limits of time: changes of a schema take what they take."""
    if engine.dialect.name == "sqlite":
        yield engine
        return
    url = engine.url.render_as_string(hide_password=False)
    patient = create_engine(url, sqlite_synchronous=True, limits=None)
    try:
        yield patient
    finally:
        patient.dispose()


def use_write_ahead_log(engine: sa.Engine) -> None:
    """Let readers of a SQLite file go on while another process writes. The file remembers it."""
    if engine.dialect.name == "sqlite" and not is_memory(engine.url):
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()


def is_memory(url: sa.URL) -> bool:
    """Whether a URL names a SQLite database in memory."""
    return url.get_backend_name() == "sqlite" and (not url.database or url.database == ":memory:")


def _listen(engine: sa.Engine, *, sqlite_synchronous: bool) -> None:
    if engine.dialect.name == "sqlite":
        memory = is_memory(engine.url)

        @event.listens_for(engine, "connect")
        def configure_sqlite(connection: Any, record: Any) -> None:
            connection.isolation_level = None  # we begin transactions ourselves, below
            if not memory:
                connection.execute(f"PRAGMA synchronous = {'FULL' if sqlite_synchronous else 'OFF'}")

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # A transaction that reads first and then writes fails when another one wrote in between; one that
            # reserves the write at its beginning waits for its turn instead.
            read_only = connection.get_execution_options().get(READ_ONLY)
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    elif engine.dialect.name in ("mysql", "mariadb"):

        @event.listens_for(engine, "connect")
        def configure_mysql(connection: Any, record: Any) -> None:
            with closing(connection.cursor()) as cursor:
                # No silent truncation; no hour that comes twice a year, in which a lease would not end.
                cursor.execute("SET SESSION sql_mode = 'TRADITIONAL', time_zone = '+00:00'")


def _forget_connections(dispose: "weakref.WeakMethod[Any]") -> None:
    """A forked child must not talk through its parent's connections."""
    method = dispose()
    if method is not None:
        method(close=False)
