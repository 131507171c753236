"""Alembic's entry point for our own tables; the connection is handed in by ``schema``."""

from alembic import context

from csi_plugin.persistence.dbms.schema import VERSION_TABLE
from csi_plugin.persistence.dbms.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
