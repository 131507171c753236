"""A server that was the primary before a failover may live on as a replica: it answers reads, and refuses all writes.

No connection breaks then by itself, so a pool would go on with those that it has, though new ones lead to the present
primary.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

_MYSQL = frozenset({1290, 1792, 1836})
"""The server's option read_only (or super_read_only), a transaction that is read-only, and read_only by a plugin."""
_POSTGRESQL = "25006"
"""SQLSTATE read_only_sql_transaction: of a standby too."""


def give_up_its_connections(engine: sa.Engine) -> None:
    """Take a refusal to write for the end of all connections that the engine has: the next ones are new."""

    @event.listens_for(engine, "handle_error")
    def look(context: sa.ExceptionContext) -> None:
        if context.connection is not None and _is_refusal(context.original_exception):
            context.is_disconnect = True


def _is_refusal(error: Any) -> bool:
    if _POSTGRESQL in (getattr(error, "sqlstate", None), getattr(error, "pgcode", None)):  # psycopg's, psycopg2's
        return True
    arguments: tuple[Any, ...] = getattr(error, "args", ())
    return arguments[:1] != () and arguments[0] in _MYSQL
