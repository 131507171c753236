"""Brings a database to the schema that this version needs: Cinder's own, and our tables beside it.

Alembic is imported only when there is something to do, which makes a start on a current database faster.
"""

import logging
import uuid
from typing import TYPE_CHECKING

import sqlalchemy as sa

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
from csi_plugin.persistence.dbms.cinder_models import models
from csi_plugin.persistence.dbms.engine import patient_engine, use_write_ahead_log
from csi_plugin.persistence.dbms.ownership import CINDER_VERSION_TABLE, VERSION_TABLE
from csi_plugin.persistence.dbms.schema_lock import schema_lock
from csi_plugin.persistence.dbms.tables import CINDER_INDEXES, metadata
from csi_plugin.persistence.encoding import utc_now

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

HEAD = "0004"
CINDER_HEAD = "9c74c1c6971f"
"""The newest revisions, known without reading the scripts; a test compares."""
DEFAULT_TYPE_NAME = "__DEFAULT__"
_CREATING = "creating"
"""Our version while an empty database is being filled."""

_LOG = logging.getLogger(__name__)


def prepare(engine: sa.Engine) -> None:
    """Create or upgrade the schema if that is needed. Several processes may do it at once.

    Raises PersistenceError for a database that a newer Cinderbox has upgraded.
    """
    if _is_current(engine):
        return
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    with patient_engine(engine) as patient, schema_lock(patient):
        if not _is_current(patient):
            use_write_ahead_log(patient)
            _upgrade(patient)


def _is_current(engine: sa.Engine) -> bool:
    if _revision(engine, VERSION_TABLE) != HEAD:
        return False
    return _cinder_is_current(engine)


def check_readable(engine: sa.Engine) -> None:
    """Raises InvalidPersistence unless this Cinder can read OpenStack's schema as it is."""
    if not _cinder_is_current(engine):
        present = _revision(engine, CINDER_VERSION_TABLE)
        raise InvalidPersistence(
            f"the database is OpenStack's own, of another release (schema {present}, this reads {CINDER_HEAD}): it is "
            "not upgraded under OpenStack"
        )


def _cinder_is_current(engine: sa.Engine) -> bool:
    """Whether this Cinder can work with the schema as it is."""
    revision = _revision(engine, CINDER_VERSION_TABLE)
    if revision == CINDER_HEAD or revision is None:
        return revision is not None
    # A newer Cinder that shares the database may have upgraded it; that stays usable for the release before.
    return revision not in {script.revision for script in _cinder_scripts().walk_revisions()}


def _revision(engine: sa.Engine, table: str) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(table):
            return None
        revision: str | None = connection.execute(sa.text(f"SELECT version_num FROM {table}")).scalar()
        return revision


def _upgrade(engine: sa.Engine) -> None:
    ours, cinders = _revision(engine, VERSION_TABLE), _revision(engine, CINDER_VERSION_TABLE)
    if ours == _CREATING or (ours is None and cinders is None):
        _create(engine)
        return
    if ours is not None and ours not in {script.revision for script in _our_scripts().walk_revisions()}:
        raise PersistenceError(f"the database was upgraded by a newer Cinderbox (schema {ours}, this has {HEAD})")
    with engine.begin() as connection:
        # Cinder's migration makes the column NOT NULL and expects its online migration to have filled it.
        for table in ("volumes", "snapshots"):
            connection.execute(sa.text(f"UPDATE {table} SET use_quota = :yes WHERE use_quota IS NULL"), {"yes": True})
    if not _cinder_is_current(engine):
        from cinder.db import migration

        migration.db_sync(engine=engine)
    if ours != HEAD:
        import alembic.command

        with engine.begin() as connection:
            config = _our_config()
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")


def _create(engine: sa.Engine) -> None:
    """Fill an empty database. It can be repeated: MariaDB commits each table by itself."""
    with engine.begin() as connection:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            if sa.inspect(connection).has_table("volumes"):
                raise PersistenceError(
                    "the database has Cinder's tables without Alembic's version: upgrade it with its own Cinder first"
                )
            _stamp(connection, VERSION_TABLE, _CREATING)
    with engine.begin() as connection:
        models.BASE.metadata.create_all(connection)
        metadata.create_all(connection)
        present = sa.inspect(connection)
        for name, table, columns in CINDER_INDEXES:
            if not any(index["name"] == name for index in present.get_indexes(table)):
                _index(name, models.BASE.metadata.tables[table], columns).create(connection)
        types = models.VolumeType.__table__
        if not connection.execute(sa.select(types.c.id).where(types.c.name == DEFAULT_TYPE_NAME)).first():
            default = {"name": DEFAULT_TYPE_NAME, "description": "Default Volume Type", "is_public": True}
            now = utc_now().replace(tzinfo=None, microsecond=0)
            connection.execute(types.insert(), default | {"id": str(uuid.uuid4()), "created_at": now, "deleted": False})
        if not present.has_table(CINDER_VERSION_TABLE):
            _stamp(connection, CINDER_VERSION_TABLE, CINDER_HEAD)
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = :head"), {"head": HEAD})


def _index(name: str, table: sa.Table, columns: tuple[str, ...]) -> sa.Index:
    """An index that is not attached to Cinder's table, so that Cinder's metadata stays as it is."""
    indexed = sa.Table(table.name, sa.MetaData(), *(sa.Column(column, table.c[column].type) for column in columns))
    return sa.Index(name, *indexed.c)


def _stamp(connection: sa.Connection, table: str, revision: str) -> None:
    connection.execute(sa.text(f"CREATE TABLE {table} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(sa.text(f"INSERT INTO {table} (version_num) VALUES (:revision)"), {"revision": revision})


def _our_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "csi_plugin.persistence.dbms:migrations")
    return config


def _our_scripts() -> "ScriptDirectory":
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_our_config())


def _cinder_scripts() -> "ScriptDirectory":
    from alembic.script import ScriptDirectory
    from cinder.db import migration

    return ScriptDirectory.from_config(migration._find_alembic_conf())
