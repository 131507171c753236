"""Nodes by their names on the storage network, and by when they were last heard of.

The table starts empty: a node whose names it does not have is read, until it registers.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = "cinderbox_node_name"
NODES = "cinderbox_node_revision"


def upgrade() -> None:
    connection = op.get_bind()
    id_type: sa.types.TypeEngine[str] = sa.String(255)
    if connection.dialect.name in ("mysql", "mariadb"):
        collation = "utf8mb4_nopad_bin" if getattr(connection.dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
        id_type = mysql.VARCHAR(255, charset="utf8mb4", collation=collation)
    # MariaDB commits each statement by itself, so an upgrade may have been interrupted between two of them.
    present = sa.inspect(connection)
    if not present.has_table(TABLE):
        op.create_table(
            TABLE,
            sa.Column("name", sa.String(64), primary_key=True),
            sa.Column("id", id_type, primary_key=True),
            mysql_engine="InnoDB",
        )
    if not any(index["name"] == f"{TABLE}_id_idx" for index in sa.inspect(connection).get_indexes(TABLE)):
        op.create_index(f"{TABLE}_id_idx", TABLE, ["id"])
    if not any(column["name"] == "named_revision" for column in present.get_columns(NODES)):
        op.add_column(NODES, sa.Column("named_revision", sa.BigInteger))
    if not any(index["name"] == f"{NODES}_updated_at_idx" for index in present.get_indexes(NODES)):
        op.create_index(f"{NODES}_updated_at_idx", NODES, ["updated_at", "id"])
