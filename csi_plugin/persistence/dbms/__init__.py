"""Persistence in a SQL database, on Cinder's own schema and database layer.

Importing this package imports Cinder's database layer.
"""

from csi_plugin.persistence.dbms.store import DBPersistence, MemoryDBPersistence

__all__ = ["DBPersistence", "MemoryDBPersistence"]
