"""Whose a database is. One that OpenStack's Cinder works with is read, and not written unless a person says so."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from csi_plugin.persistence.base import InvalidPersistence
from csi_plugin.persistence.dbms.tables import key_value
from csi_plugin.persistence.dbms.time_limits import READ_ONLY

VERSION_TABLE = "cinderbox_alembic_version"
CINDER_VERSION_TABLE = "alembic_version"
REFUSAL = (
    "the database is OpenStack's own (Cinder's tables, and none of Cinderbox or cinderlib), so nothing is written "
    "there: name another one. If OpenStack's Cinder has been stopped for good, the argument take_over: true allows it"
)


def is_openstacks(engine: sa.Engine) -> bool:
    """Whether Cinder's tables are there, and neither ours nor cinderlib's. It only looks."""
    with engine.execution_options(**{READ_ONLY: True}).connect() as connection:
        has_table = sa.inspect(connection).has_table
        is_cinders = has_table(CINDER_VERSION_TABLE) or has_table("volumes")
        return is_cinders and not has_table(VERSION_TABLE) and not has_table(key_value.name)


def check_may_write(engine: sa.Engine) -> None:
    """Raises InvalidPersistence for OpenStack's own database."""
    if is_openstacks(engine):
        raise InvalidPersistence(REFUSAL)


def forbid_writes(engine: sa.Engine) -> None:
    """Let the server itself refuse writes on this engine, also those of Cinder's layer."""
    if engine.dialect.name == "postgresql":
        # Not its sessions: behind a pooler, they may be OpenStack's the next moment.
        @event.listens_for(engine, "begin")
        def only_read_in_it(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

        return

    @event.listens_for(engine, "connect")
    def only_read(connection: Any, record: Any) -> None:
        is_sqlite = engine.dialect.name == "sqlite"
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only = ON" if is_sqlite else "SET SESSION TRANSACTION READ ONLY")
        cursor.close()

    engine.dispose()  # connections from before it
