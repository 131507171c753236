"""A lease in a database, taken without Cinder: a server has to know whether it leads before it loads the rest."""

import sqlalchemy as sa

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.dbms.engine import plain_engine, use_write_ahead_log
from csi_plugin.persistence.dbms.ownership import check_may_write
from csi_plugin.persistence.dbms.tables import KEY_TEXT, OPTIONS

_ATTEMPTS = 5  # a transaction that the server chose as a deadlock's victim is run again

# Not among the migrations' tables: it is created when it is first needed, which is before the rest of the schema is.
_TABLE = sa.Table(
    "cinderbox_lease",
    sa.MetaData(),
    sa.Column("name", KEY_TEXT, primary_key=True),
    sa.Column("holder", KEY_TEXT, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),  # seconds since 1970 by the database's clock
    **OPTIONS,
)


class DatabaseLease:
    """Leases in the table ``cinderbox_lease``. Thread-safe."""

    def __init__(self, connection: str, *, take_over: bool = False) -> None:
        """``connection`` is a SQLAlchemy URL; ``take_over``: as DBPersistence's. Connects when a lease is first asked
        for. Raises InvalidPersistence, then too."""
        self._take_over = take_over
        self._engine = plain_engine(connection)
        self._has_table = False

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        """As RecordStore.acquire_lease()."""
        for attempt in range(_ATTEMPTS):
            try:
                self._make_table()
                with self._engine.begin() as connection:
                    return _take(connection, name, holder=holder, seconds=seconds)
            except sa.exc.IntegrityError:
                return False  # another one was first
            except sa.exc.OperationalError as error:
                if attempt == _ATTEMPTS - 1:
                    raise PersistenceError(f"database: {error}") from error
            except sa.exc.SQLAlchemyError as error:
                raise PersistenceError(f"database: {error}") from error
        raise AssertionError("unreachable")

    def release_lease(self, name: str, *, holder: str) -> None:
        """As RecordStore.release_lease()."""
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
        except sa.exc.DBAPIError:
            # Another process created it in between.
            if not sa.inspect(self._engine).has_table(_TABLE.name):
                raise
        self._has_table = True


def _take(connection: sa.Connection, name: str, *, holder: str, seconds: float) -> bool:
    now = _time(connection.dialect.name)
    is_free = sa.or_(_TABLE.c.holder == holder, _TABLE.c.expires_at < now)
    taken = _TABLE.update().where(_TABLE.c.name == name, is_free)
    if connection.execute(taken.values(holder=holder, expires_at=now + seconds)).rowcount:
        return True
    if connection.execute(sa.select(_TABLE.c.name).where(_TABLE.c.name == name)).first():
        return False
    connection.execute(_TABLE.insert().values(name=name, holder=holder, expires_at=now + seconds))
    return True


def _time(dialect: str) -> sa.ColumnElement[float]:
    """Seconds since 1970 by the database's clock, which all holders of a lease share."""
    if dialect == "sqlite":
        text = "((julianday('now') - 2440587.5) * 86400.0)"
    elif dialect == "postgresql":
        text = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
    else:
        text = "UNIX_TIMESTAMP(NOW(6))"
    return sa.literal_column(text, sa.Double)
