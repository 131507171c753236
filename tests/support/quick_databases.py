"""What each new database would cost this process again: to compile the same statements, and to make the same tables in
memory. Tests open a thousand databases."""

import sqlite3
import threading
import uuid
from collections.abc import Hashable
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.util import LRUCache

from csi_plugin.persistence.dbms import schema
from csi_plugin.persistence.dbms.engine import is_memory

_MOST_STATEMENTS = 3000
_create_engine, _prepare = sa.create_engine, schema.prepare
_lock = threading.Lock()
_template: sqlite3.Connection | None = None


class _Compiled(LRUCache[Any, Any]):
    """Statements by the kind of database; an engine's own cache has them by its dialect, which no other one has."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_kind(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_of_kind(key), value)


_compiled = _Compiled(_MOST_STATEMENTS)


def install() -> None:
    """For the rest of this process. What a test sees is as without it."""
    sa.create_engine = _create_engine_with_statements
    schema.prepare = _prepare_from_template


def _of_kind(key: tuple[Any, ...]) -> Hashable:
    dialect, *rest = key
    traits = ("server_version_info", "is_mariadb", "_sql_mode", "paramstyle")
    return (type(dialect), *(getattr(dialect, name, None) for name in traits), *rest)


def _create_engine_with_statements(*arguments: Any, **keywords: Any) -> sa.Engine:
    keywords.setdefault("execution_options", {"compiled_cache": _compiled})
    return _create_engine(*arguments, **keywords)


def _prepare_from_template(engine: sa.Engine) -> None:
    """A database in memory is a copy of the first one, with a default type of its own. Files are made as ever."""
    global _template
    if not is_memory(engine.url):
        _prepare(engine)
        return
    with _lock:
        if _template is None:
            _prepare(engine)
            _template = sqlite3.connect(":memory:", check_same_thread=False)
            with _raw(engine) as first:
                first.backup(_template)
            return
        with _raw(engine) as connection:
            _template.backup(connection)
            new = (str(uuid.uuid4()), schema.DEFAULT_TYPE_NAME)
            connection.execute("UPDATE volume_types SET id = ? WHERE name = ?", new)


@contextmanager
def _raw(engine: sa.Engine) -> Any:
    pooled = engine.raw_connection()
    try:
        yield pooled.driver_connection
    finally:
        pooled.close()
