"""A lease in a database, taken without Cinder: a server has to know whether it leads before it loads the rest."""

import threading
import time
from dataclasses import dataclass

import sqlalchemy as sa

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.dbms import time_limits
from csi_plugin.persistence.dbms.engine import plain_engine, use_write_ahead_log
from csi_plugin.persistence.dbms.ownership import check_may_write
from csi_plugin.persistence.dbms.requirements import refusal
from csi_plugin.persistence.dbms.tables import KEY_TEXT, OPTIONS
from csi_plugin.persistence.leases import LeaseTerm

_ATTEMPTS = 5  # a transaction that the server chose as a deadlock's victim is run again

# Not among the migrations' tables: it is created when it is first needed, which is before the rest of the schema is.
_TABLE = sa.Table(
    "cinderbox_lease",
    sa.MetaData(),
    sa.Column("name", KEY_TEXT, primary_key=True),
    sa.Column("holder", KEY_TEXT, nullable=False),
    # Seconds since 1970 by the database's clock. Earlier versions take a lease by it; we only see that it was renewed.
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("duration", sa.Double),  # seconds; absent in rows of earlier versions
    **OPTIONS,
)
EPOCHS = sa.Table(
    "cinderbox_lease_epoch",
    _TABLE.metadata,
    sa.Column("name", KEY_TEXT, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    **OPTIONS,
)
"""How many terms each lease has had. A row apart: who writes as the holder locks it for a moment, for which no renewal
has to wait."""
_SAME = 1e-6
"""Seconds within which two values of ``expires_at`` are one: a server may round its last digit."""
_NOBODY = ""


@dataclass(frozen=True)
class _Row:
    holder: str
    expires_at: float
    duration: float | None


@dataclass
class _Observed:
    row: _Row
    since: float


class DatabaseLease:
    """Leases in the table ``cinderbox_lease``. Thread-safe.

    No clock is believed, as the database's may be set while it runs, and its host may change: a holder is over when its
    lease has not changed, before our own eyes, for as long as it lasts.
    """

    def __init__(self, connection: str, *, take_over: bool = False) -> None:
        """``connection`` is a SQLAlchemy URL; ``take_over``: as DBPersistence's. Connects when a lease is first asked
        for. Raises InvalidPersistence, then too."""
        self._take_over = take_over
        self._engine = plain_engine(connection, limits=time_limits.LEASE)
        self._has_table = False
        self._lock = threading.Lock()
        self._observed: dict[str, _Observed] = {}
        self._terms: dict[str, LeaseTerm] = {}

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        """As RecordStore.acquire_lease()."""
        give_up_at = time.monotonic() + time_limits.LEASE.lock
        for attempt in range(_ATTEMPTS):
            try:
                self._make_table()
                with self._engine.begin() as connection:
                    term = self._take(connection, name, holder=holder, seconds=seconds)
                if term is not None:
                    self._terms[name] = term
                return term is not None
            except sa.exc.IntegrityError:
                return False  # another one was first
            except sa.exc.SQLAlchemyError as error:
                # Once it works, the store may be away for a while, and come back as another one.
                if not self._has_table and (refused := refusal(error)):
                    raise refused from error
                if not isinstance(error, sa.exc.OperationalError):
                    raise PersistenceError(f"database: {error}") from error
                if attempt == _ATTEMPTS - 1 or time.monotonic() > give_up_at:
                    raise PersistenceError(f"database: {error}") from error
        raise AssertionError("unreachable")

    def lease_term(self, name: str) -> LeaseTerm:
        """As RecordStore.lease_term()."""
        return self._terms.get(name, LeaseTerm())

    def release_lease(self, name: str, *, holder: str) -> None:
        """As RecordStore.release_lease()."""
        self._terms.pop(name, None)
        try:
            self._make_table()
            with self._engine.begin() as connection:
                connection.execute(_TABLE.delete().where(_TABLE.c.name == name, _TABLE.c.holder == holder))
        except sa.exc.SQLAlchemyError as error:
            raise PersistenceError(f"database: {error}") from error

    def close(self) -> None:
        """Close the connections. They are opened again when needed."""
        self._engine.dispose()

    def _make_table(self) -> None:
        if not (self._has_table or self._take_over):
            check_may_write(self._engine)
        if self._has_table:
            return
        try:
            use_write_ahead_log(self._engine)
            _TABLE.create(self._engine, checkfirst=True)
            EPOCHS.create(self._engine, checkfirst=True)
            self._add_duration()
        except sa.exc.DBAPIError:
            # Another process created them in between.
            if not (self._has_column("duration") and sa.inspect(self._engine).has_table(EPOCHS.name)):
                raise
        self._has_table = True

    def _add_duration(self) -> None:
        """To a table of an earlier version."""
        if not self._has_column("duration"):
            with self._engine.begin() as connection:
                connection.execute(sa.text(f"ALTER TABLE {_TABLE.name} ADD COLUMN duration DOUBLE PRECISION"))

    def _has_column(self, name: str) -> bool:
        inspector = sa.inspect(self._engine)
        return inspector.has_table(_TABLE.name) and any(
            column["name"] == name for column in inspector.get_columns(_TABLE.name)
        )

    def _take(self, connection: sa.Connection, name: str, *, holder: str, seconds: float) -> LeaseTerm | None:
        """The term that this process has now; None when another holder has it."""
        values = {
            "holder": holder if seconds > 0 else _NOBODY,
            "expires_at": _time(connection.dialect.name) + seconds,
            "duration": seconds,
        }
        mine = _TABLE.update().where(_TABLE.c.name == name, _TABLE.c.holder == holder)
        if connection.execute(mine.values(values)).rowcount:
            return self._terms.get(name) or LeaseTerm(_begin_term(connection, name))
        found = connection.execute(
            sa.select(_TABLE.c.holder, _TABLE.c.expires_at, _TABLE.c.duration).where(_TABLE.c.name == name)
        ).first()
        if found is None:
            connection.execute(_TABLE.insert().values(name=name, **values))
            return LeaseTerm(_begin_term(connection, name))
        row = _Row(*found)
        if not self._is_over(name, row, default=seconds):
            return None
        unchanged = (
            _TABLE.c.name == name,
            _TABLE.c.holder == row.holder,
            sa.func.abs(_TABLE.c.expires_at - row.expires_at) < _SAME,
        )
        if connection.execute(_TABLE.update().where(*unchanged).values(values)).rowcount != 1:
            return None
        return LeaseTerm(_begin_term(connection, name), predecessor=row.holder)

    def _is_over(self, name: str, row: _Row, *, default: float) -> bool:
        if row.holder == _NOBODY:
            return True
        with self._lock:
            observed = self._observed.get(name)
            if observed is None or observed.row != row:
                self._observed[name] = _Observed(row, time.monotonic())
                return False
            return time.monotonic() - observed.since > (default if row.duration is None else row.duration)


def _begin_term(connection: sa.Connection, name: str) -> int:
    """Count a new term. Waits for the writes that the last holder is committing; later ones find that it is over."""
    own = EPOCHS.c.name == name
    if connection.execute(EPOCHS.update().where(own).values(epoch=EPOCHS.c.epoch + 1)).rowcount == 0:
        connection.execute(EPOCHS.insert().values(name=name, epoch=1))
    return int(connection.execute(sa.select(EPOCHS.c.epoch).where(own)).scalar_one())


def _time(dialect: str) -> sa.ColumnElement[float]:
    """Seconds since 1970 by the database's clock."""
    if dialect == "sqlite":
        text = "((julianday('now') - 2440587.5) * 86400.0)"
    elif dialect == "postgresql":
        text = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
    else:
        text = "UNIX_TIMESTAMP(NOW(6))"
    return sa.literal_column(text, sa.Double)
