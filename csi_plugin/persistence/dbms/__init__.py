"""Persistence in a SQL database, on Cinder's own schema and database layer.

The plugins are imported when they are asked for: they import Cinder's database layer, and the lease does without.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csi_plugin.persistence.dbms.store import DBPersistence, MemoryDBPersistence

__all__ = ["DBPersistence", "MemoryDBPersistence"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from csi_plugin.persistence.dbms import store

    return getattr(store, name)
