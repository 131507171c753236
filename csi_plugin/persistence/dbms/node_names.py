"""Nodes' names on the storage network in a table of their own, by which nodes are found without reading all of them.

A process of an older version writes nodes without it, as while one is replaced by a newer one. So each node says which
of its revisions the table has the names of, and one that has gone on since is read whatever it is called.
"""

import hashlib
from collections.abc import Collection

import sqlalchemy as sa

from csi_plugin.persistence import initiators
from csi_plugin.persistence.dbms.tables import node_extra, node_name
from csi_plugin.persistence.records import NodeRecord

_CHUNK = 500  # values in one statement


def write(connection: sa.Connection, node: NodeRecord) -> None:
    """Bring the table to a node's names. The node's own row says that it was, with ``named_revision``."""
    rows = sa.select(node_name.c.name).where(node_name.c.id == node.id)
    present, wanted = set(connection.execute(rows).scalars()), _digests(initiators.names(node.connector))
    if old := present - wanted:
        connection.execute(node_name.delete().where(node_name.c.id == node.id, node_name.c.name.in_(sorted(old))))
    if new := wanted - present:
        connection.execute(node_name.insert(), [{"name": name, "id": node.id} for name in sorted(new)])


def delete(connection: sa.Connection, node_id: str) -> None:
    connection.execute(node_name.delete().where(node_name.c.id == node_id))


def ids_of(connection: sa.Connection, names: Collection[str]) -> list[str]:
    """The nodes that may have one of these names: those that the table has with it, and those that it does not know."""
    known, revision = node_extra.c.named_revision, node_extra.c.revision
    unknown = sa.select(node_extra.c.id).where(sa.or_(known.is_(None), known != revision))
    found = set(connection.execute(unknown).scalars())
    digests = sorted(_digests(names))
    for start in range(0, len(digests), _CHUNK):
        some = digests[start : start + _CHUNK]
        found.update(connection.execute(sa.select(node_name.c.id).where(node_name.c.name.in_(some))).scalars())
    return sorted(found)


def _digests(names: Collection[str]) -> set[str]:
    """Of one length, and of characters that every collation tells apart."""
    return {hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest() for name in names}
