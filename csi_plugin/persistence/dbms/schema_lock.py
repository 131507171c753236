"""The lock under which one process at a time changes the schema of a database."""

import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.dbms import sqlite_file
from csi_plugin.persistence.dbms.engine import is_memory
from csi_plugin.persistence.dbms.lease import DatabaseLease

WAIT_SECONDS = 600.0
"""How long another process may take."""
_POLL_SECONDS = 0.2
_NUMBER = 7_268_441  # any; it names our advisory lock in PostgreSQL
_LEASE_NAME = "schema"
_LEASE_SECONDS = 30.0

_LOG = logging.getLogger(__name__)


@contextmanager
def schema_lock(engine: sa.Engine) -> Iterator[None]:
    """Hold the lock. Raises PersistenceError when another process does not give it back in time."""
    match engine.dialect.name:
        case "sqlite":
            lock = _file_lock(engine.url)
        case "postgresql":
            lock = _transaction_lock(engine)
        case _:
            lock = _row_lock(engine.url)
    with lock:
        yield


@contextmanager
def _file_lock(url: sa.URL) -> Iterator[None]:
    if is_memory(url):
        yield
        return
    with os.fdopen(sqlite_file.open_lock(url), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _transaction_lock(engine: sa.Engine) -> Iterator[None]:
    """A transaction's: a session's would stay with a pooler's connection, which goes on to others."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        with engine.connect() as connection, connection.begin():
            # This transaction is idle while others work.
            connection.execute(sa.text("SELECT set_config('idle_in_transaction_session_timeout', '0', true)"))
            if connection.execute(sa.text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _NUMBER}).scalar():
                yield
                return
            held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock AND granted"
            pids = connection.execute(sa.text(held), {"lock": _NUMBER}).scalars().all()
        _pause(give_up_at, f"the server's process {', '.join(map(str, pids))}; pg_terminate_backend(pid) ends it")


@contextmanager
def _row_lock(url: sa.URL) -> Iterator[None]:
    """A row's: Galera has GET_LOCK on each server alone, and Percona XtraDB Cluster refuses it."""
    lease = DatabaseLease(url.render_as_string(hide_password=False), take_over=True)
    holder, give_up_at = f"{os.uname().nodename}/{os.getpid()}/{uuid.uuid4()}", time.monotonic() + WAIT_SECONDS
    try:
        while not lease.acquire_lease(_LEASE_NAME, holder=holder, seconds=_LEASE_SECONDS):
            _pause(give_up_at, f"row {_LEASE_NAME!r} of table cinderbox_lease")
        try:
            with _keep_renewing(lambda: lease.acquire_lease(_LEASE_NAME, holder=holder, seconds=_LEASE_SECONDS)):
                yield
        finally:
            with suppress(PersistenceError):  # it ends by itself
                lease.release_lease(_LEASE_NAME, holder=holder)
    finally:
        lease.close()


@contextmanager
def _keep_renewing(renew: Callable[[], bool]) -> Iterator[None]:
    done = threading.Event()

    def keep() -> None:
        while not done.wait(_LEASE_SECONDS / 3):
            try:
                renew()
            except PersistenceError as error:
                _LOG.warning("cannot renew the lock of the schema, retrying: %s", error)

    thread = threading.Thread(target=keep, name="schema lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _pause(give_up_at: float, where: str) -> None:
    if time.monotonic() > give_up_at:
        raise PersistenceError(
            f"another process has been changing the database's schema for {WAIT_SECONDS / 60:.0f} minutes; if there is "
            f"none, its lock was left behind: {where}"
        )
    time.sleep(_POLL_SECONDS)
