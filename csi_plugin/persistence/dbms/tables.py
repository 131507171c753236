"""Our own tables: what records hold and Cinder's schema has no place for.

Beside each table of Cinder's that keeps records stands one of ours with the same id. Revisions of this schema
are in ``migrations``; a change here needs a new one there.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

metadata = sa.MetaData()

LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")


class KeyText(sa.types.TypeDecorator[str]):
    """Text that is compared by its bytes: most collations of MariaDB and MySQL ignore case, or blanks at the end."""

    impl = sa.String(255)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        if dialect.name not in ("mysql", "mariadb"):
            return dialect.type_descriptor(sa.String(255))
        collation = "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
        return dialect.type_descriptor(mysql.VARCHAR(255, charset="utf8mb4", collation=collation))


KEY_TEXT = KeyText()

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB"
}  # ids have the character set of the ids in Cinder's tables, to be joined by index


def _uuid() -> sa.Column[str]:
    return sa.Column("id", sa.String(36), primary_key=True)


def _revision() -> sa.Column[int]:
    return sa.Column("revision", sa.BigInteger, nullable=False)


def _exact_times() -> sa.Column[str]:
    """JSON of field name to ISO 8601. MariaDB's columns of Cinder's schema cut a time to whole seconds."""
    return sa.Column("exact_times", LONG_TEXT)


volume = sa.Table(
    "cinderbox_volume",
    metadata,
    _uuid(),
    _revision(),
    sa.Column("backend", KEY_TEXT),
    sa.Column("csi_name", KEY_TEXT),
    sa.Column("intent", LONG_TEXT),
    sa.Column("provider_auth", LONG_TEXT),
    _exact_times(),
    sa.Index("cinderbox_volume_backend_idx", "backend", "id"),
    sa.Index("cinderbox_volume_csi_name_idx", "csi_name", "id"),
    **OPTIONS,
)

snapshot = sa.Table(
    "cinderbox_snapshot",
    metadata,
    _uuid(),
    _revision(),
    sa.Column("csi_name", KEY_TEXT),
    sa.Column("intent", LONG_TEXT),
    sa.Column("provider_auth", LONG_TEXT),
    _exact_times(),
    sa.Index("cinderbox_snapshot_csi_name_idx", "csi_name", "id"),
    **OPTIONS,
)

connection = sa.Table(
    "cinderbox_connection",
    metadata,
    _uuid(),
    _revision(),
    sa.Column("node_id", KEY_TEXT),
    sa.Column("connection_info", LONG_TEXT),
    _exact_times(),
    sa.Index("cinderbox_connection_node_id_idx", "node_id", "id"),
    **OPTIONS,
)

group = sa.Table(
    "cinderbox_group",
    metadata,
    _uuid(),
    _revision(),
    sa.Column("group_specs", LONG_TEXT),
    sa.Column("volume_type_ids", LONG_TEXT),
    _exact_times(),
    **OPTIONS,
)

group_snapshot = sa.Table(
    "cinderbox_group_snapshot",
    metadata,
    _uuid(),
    _revision(),
    sa.Column("backend", KEY_TEXT),
    sa.Column("csi_name", KEY_TEXT),
    sa.Column("intent", LONG_TEXT),
    _exact_times(),
    sa.Index("cinderbox_group_snapshot_csi_name_idx", "csi_name", "id"),
    **OPTIONS,
)

key_value = sa.Table(
    "cinderlib_persistence_key_value",  # cinderlib's table and columns, so that its databases are ours
    metadata,
    sa.Column("key", KEY_TEXT, primary_key=True),
    sa.Column("value", LONG_TEXT),
    **OPTIONS,
)

key_value_extra = sa.Table(
    "cinderbox_key_value",
    metadata,
    sa.Column("id", KEY_TEXT, primary_key=True),
    _revision(),
    sa.Column("created_at", sa.DateTime),
    sa.Column("updated_at", sa.DateTime),
    _exact_times(),
    **OPTIONS,
)

node = sa.Table(
    "cinderbox_node",
    metadata,
    sa.Column("id", KEY_TEXT, primary_key=True),
    sa.Column("connector", LONG_TEXT),
    sa.Column("public_key", LONG_TEXT),
    sa.Column("topology", LONG_TEXT),
    sa.Column("max_volumes", sa.BigInteger, nullable=False),
    **OPTIONS,
)

node_extra = sa.Table(
    "cinderbox_node_revision",
    metadata,
    sa.Column("id", KEY_TEXT, primary_key=True),
    _revision(),
    sa.Column("created_at", sa.DateTime),
    sa.Column("updated_at", sa.DateTime),
    _exact_times(),
    sa.Column("named_revision", sa.BigInteger),
    sa.Index("cinderbox_node_revision_updated_at_idx", "updated_at", "id"),
    **OPTIONS,
)

node_name = sa.Table(
    "cinderbox_node_name",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("id", KEY_TEXT, primary_key=True),
    sa.Index("cinderbox_node_name_id_idx", "id"),
    **OPTIONS,
)

CINDER_INDEXES = (
    ("cinderbox_volumes_display_name_idx", "volumes", ("display_name", "id")),
    ("cinderbox_volumes_source_volid_idx", "volumes", ("source_volid", "id")),
    ("cinderbox_volumes_snapshot_id_idx", "volumes", ("snapshot_id", "id")),
    ("cinderbox_snapshots_display_name_idx", "snapshots", ("display_name", "id")),
    ("cinderbox_groups_name_idx", "groups", ("name", "id")),
    ("cinderbox_group_snapshots_name_idx", "group_snapshots", ("name", "id")),
)
"""Indexes that we add to Cinder's tables, which have none for what a name is looked up by."""
