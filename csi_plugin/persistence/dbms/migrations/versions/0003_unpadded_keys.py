"""Names and other keys are compared with their blanks: MariaDB's collations of 0001 ignore those at the end."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = (
    ("cinderbox_volume", "backend", True),
    ("cinderbox_volume", "csi_name", True),
    ("cinderbox_snapshot", "csi_name", True),
    ("cinderbox_connection", "node_id", True),
    ("cinderbox_group_snapshot", "backend", True),
    ("cinderbox_group_snapshot", "csi_name", True),
    ("cinderlib_persistence_key_value", "key", False),
    ("cinderbox_key_value", "id", False),
    ("cinderbox_node", "id", False),
    ("cinderbox_node_revision", "id", False),
    ("cinderbox_lease", "name", False),
    ("cinderbox_lease", "holder", False),
)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name not in ("mysql", "mariadb"):
        return
    collation = "utf8mb4_nopad_bin" if getattr(connection.dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
    text = mysql.VARCHAR(255, charset="utf8mb4", collation=collation)
    for table, column, is_nullable in COLUMNS:
        if sa.inspect(connection).has_table(table):
            op.alter_column(table, column, type_=text, existing_nullable=is_nullable)
