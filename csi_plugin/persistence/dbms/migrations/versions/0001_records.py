"""Tables beside Cinder's for revision, intent, sealed fields, names and nodes."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")
KEY_TEXT = sa.String(255).with_variant(
    mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)
OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB"
}  # ids have the character set of the ids in Cinder's tables, to be joined by index
KEY_VALUES = "cinderlib_persistence_key_value"

EXTRA_COLUMNS = {
    "volume": (("backend", KEY_TEXT), ("csi_name", KEY_TEXT), ("intent", LONG_TEXT), ("provider_auth", LONG_TEXT)),
    "snapshot": (("csi_name", KEY_TEXT), ("intent", LONG_TEXT), ("provider_auth", LONG_TEXT)),
    "connection": (("node_id", KEY_TEXT), ("connection_info", LONG_TEXT)),
    "group": (("group_specs", LONG_TEXT), ("volume_type_ids", LONG_TEXT)),
    "group_snapshot": (("backend", KEY_TEXT), ("csi_name", KEY_TEXT), ("intent", LONG_TEXT)),
}
EXTRA_INDEXES = (
    ("volume", "backend"),
    ("volume", "csi_name"),
    ("snapshot", "csi_name"),
    ("connection", "node_id"),
    ("group_snapshot", "csi_name"),
)
CINDER_INDEXES = (
    ("volumes", "display_name"),
    ("volumes", "source_volid"),
    ("volumes", "snapshot_id"),
    ("snapshots", "display_name"),
    ("groups", "name"),
    ("group_snapshots", "name"),
)


def upgrade() -> None:
    for kind, columns in EXTRA_COLUMNS.items():
        op.create_table(
            f"cinderbox_{kind}",
            sa.Column("id", sa.String(36), primary_key=True),
            sa.Column("revision", sa.BigInteger, nullable=False),
            *(sa.Column(name, type_) for name, type_ in columns),
            **OPTIONS,
        )
    for kind, column in EXTRA_INDEXES:
        op.create_index(f"cinderbox_{kind}_{column}_idx", f"cinderbox_{kind}", [column, "id"])
    for table, column in CINDER_INDEXES:
        op.create_index(f"cinderbox_{table}_{column}_idx", table, [column, "id"])
    _create_key_values()
    op.create_table(
        "cinderbox_node",
        sa.Column("id", KEY_TEXT, primary_key=True),
        sa.Column("connector", LONG_TEXT),
        sa.Column("public_key", LONG_TEXT),
        sa.Column("topology", LONG_TEXT),
        sa.Column("max_volumes", sa.BigInteger, nullable=False),
        **OPTIONS,
    )
    for name in ("cinderbox_node_revision", "cinderbox_key_value"):
        op.create_table(
            name,
            sa.Column("id", KEY_TEXT, primary_key=True),
            sa.Column("revision", sa.BigInteger, nullable=False),
            sa.Column("created_at", sa.DateTime),
            sa.Column("updated_at", sa.DateTime),
            **OPTIONS,
        )
    _adopt_records()


def _create_key_values() -> None:
    """Create the table of key-values, or take over the one that cinderlib created."""
    if not sa.inspect(op.get_bind()).has_table(KEY_VALUES):
        op.create_table(
            KEY_VALUES, sa.Column("key", KEY_TEXT, primary_key=True), sa.Column("value", LONG_TEXT), **OPTIONS
        )
    elif op.get_bind().dialect.name in ("mysql", "mariadb"):
        op.alter_column(KEY_VALUES, "key", type_=KEY_TEXT, existing_nullable=False)
        op.alter_column(KEY_VALUES, "value", type_=LONG_TEXT)


def _adopt_records() -> None:
    """Give every record that is there its row in our tables.

    A volume's backend stands between ``@`` and ``#`` of its host; no SQL function for that is common to all
    servers.
    """
    connection = op.get_bind()
    volumes = connection.execute(sa.text("SELECT id, host FROM volumes")).all()
    if volumes:
        table = sa.table("cinderbox_volume", sa.column("id"), sa.column("revision"), sa.column("backend"))
        rows = [
            {"id": id_, "revision": 1, "backend": (host or "").split("#")[0].split("@")[-1]} for id_, host in volumes
        ]
        connection.execute(table.insert(), rows)
    for kind, source in (("snapshot", "snapshots"), ("connection", "volume_attachment")):
        connection.execute(sa.text(f"INSERT INTO cinderbox_{kind} (id, revision) SELECT id, 1 FROM {source}"))
