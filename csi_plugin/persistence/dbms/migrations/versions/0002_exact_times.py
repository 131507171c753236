"""A column for times with their microseconds, which Cinder's columns cut off on MariaDB."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")
TABLES = ("volume", "snapshot", "connection", "group", "group_snapshot", "key_value", "node_revision")


def upgrade() -> None:
    for name in TABLES:
        table = f"cinderbox_{name}"
        # MariaDB commits each statement by itself, so an upgrade may have been interrupted between two of them.
        if not any(column["name"] == "exact_times" for column in sa.inspect(op.get_bind()).get_columns(table)):
            op.add_column(table, sa.Column("exact_times", LONG_TEXT))
