"""Alembic's entry point for our own tables; the connection is handed in by ``schema``."""

from alembic import context

from csi_plugin.persistence.dbms.ownership import VERSION_TABLE
from csi_plugin.persistence.dbms.tables import metadata


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Whether Alembic's comparison looks at something: Cinder's tables are not ours to judge."""
    return kind != "table" or name in metadata.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=is_ours,
)
with context.begin_transaction():
    context.run_migrations()
