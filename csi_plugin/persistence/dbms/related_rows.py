"""What belongs to a record outside its row in Cinder's table."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from csi_plugin.persistence.dbms import dictionaries, node_names, volume_types
from csi_plugin.persistence.dbms.layouts import TYPE_SPECS, Layout
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.records import GroupRecord, NodeRecord, Record, VolumeRecord


def revisions(record: Record) -> dict[str, int]:
    """The columns of our row that follow the revision. A node's names are written in the same transaction."""
    is_node = isinstance(record, NodeRecord)
    return {"revision": record.revision} | ({"named_revision": record.revision} if is_node else {})


def insert(connection: sa.Connection, layout: Layout, record: Any, extra: dict[str, Any]) -> None:
    """Insert it, with our own row and its columns ``extra``."""
    connection.execute(layout.extra.insert(), extra | {"id": record.id} | revisions(record))
    for dictionary in layout.dictionaries:
        if dictionary not in TYPE_SPECS:
            dictionaries.insert(connection, dictionary, record.id, getattr(record, dictionary.field))
    if isinstance(record, VolumeRecord) and record.volume_type_id == record.id:
        volume_types.write(connection, record, now=naive(utc_now()))
    elif isinstance(record, GroupRecord):
        volume_types.write_group(connection, record, now=naive(utc_now()))
    elif isinstance(record, NodeRecord):
        node_names.write(connection, record)


def remove(connection: sa.Connection, layout: Layout, record_id: str) -> None:
    if layout.kind is VolumeRecord:
        volume_types.delete(connection, record_id)
    elif layout.kind is GroupRecord:
        volume_types.delete_group(connection, record_id)
    elif layout.kind is NodeRecord:
        node_names.delete(connection, record_id)
    for dictionary in layout.dictionaries:
        if dictionary not in TYPE_SPECS:
            connection.execute(dictionary.table.delete().where(dictionary.owner == record_id))
    connection.execute(layout.extra.delete().where(layout.extra.c.id == record_id))


def naive(moment: datetime) -> datetime:
    """As Cinder's columns have it: whole seconds, which is all that MariaDB's keep."""
    return moment.replace(tzinfo=None, microsecond=0)
