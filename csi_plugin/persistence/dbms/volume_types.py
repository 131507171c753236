"""A volume's own extra specs and QoS specs, as the volume type and QoS rows in which Cinder's code looks for
them, and a group's specs as its group type.

Such a type has the volume's id as its id and name, and so have its QoS specs, as in cinderlib's databases. A
volume without specs has Cinder's default type; one that refers to a type of somebody else keeps it while the
specs agree. A group's type has the group's id; the specs themselves are read from our own table.
"""

import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from csi_plugin.persistence.dbms.cinder_models import models
from csi_plugin.persistence.records import GroupRecord, VolumeRecord

TYPES: sa.Table = models.VolumeType.__table__
EXTRA_SPECS: sa.Table = models.VolumeTypeExtraSpecs.__table__
QOS: sa.Table = models.QualityOfServiceSpecs.__table__
GROUP_TYPES: sa.Table = models.GroupType.__table__
GROUP_SPECS: sa.Table = models.GroupTypeSpecs.__table__

CONSUMER = "consumer"
"""Cinder's reserved key among QoS specs: who enforces them."""


def write(connection: sa.Connection, record: VolumeRecord, *, now: datetime) -> None:
    """Insert the type of a volume that has its own."""
    common = {"created_at": now, "deleted": False}
    if record.qos_specs:
        head = {"id": record.id, "specs_id": None, "key": "QoS_Specs_Name", "value": record.id}
        connection.execute(QOS.insert(), head | common)
        specs = {CONSUMER: "back-end"} | record.qos_specs
        rows = [
            {"id": str(uuid.uuid4()), "specs_id": record.id, "key": key, "value": value} | common
            for key, value in specs.items()
        ]
        connection.execute(QOS.insert(), rows)
    own = {"id": record.id, "name": record.id, "is_public": True}
    connection.execute(TYPES.insert(), own | common | {"qos_specs_id": record.id if record.qos_specs else None})
    if record.extra_specs:
        rows = [
            {"volume_type_id": record.id, "key": key, "value": value} | common
            for key, value in record.extra_specs.items()
        ]
        connection.execute(EXTRA_SPECS.insert(), rows)


def delete(connection: sa.Connection, volume_id: str) -> None:
    """Remove the type that belongs to a volume, if it has one."""
    connection.execute(EXTRA_SPECS.delete().where(EXTRA_SPECS.c.volume_type_id == volume_id))
    connection.execute(TYPES.delete().where(TYPES.c.id == volume_id))
    connection.execute(QOS.delete().where(QOS.c.specs_id == volume_id))
    connection.execute(QOS.delete().where(QOS.c.id == volume_id))


def mark_deleted(connection: sa.Connection, volume_id: str, *, now: datetime) -> None:
    """Soft-delete the type that belongs to a volume."""
    values: dict[str, Any] = {"deleted": True, "deleted_at": now}
    connection.execute(EXTRA_SPECS.update().where(EXTRA_SPECS.c.volume_type_id == volume_id).values(values))
    connection.execute(TYPES.update().where(TYPES.c.id == volume_id).values(values))
    is_own = sa.or_(QOS.c.id == volume_id, QOS.c.specs_id == volume_id)
    connection.execute(QOS.update().where(is_own).values(values))


def write_group(connection: sa.Connection, record: GroupRecord, *, now: datetime) -> None:
    """Insert the type of a group, or replace it; a group of somebody else's type keeps that."""
    if record.group_type_id != record.id:
        return
    delete_group(connection, record.id)
    common = {"created_at": now, "deleted": False}
    connection.execute(GROUP_TYPES.insert(), {"id": record.id, "name": record.id, "is_public": True} | common)
    if record.group_specs:
        rows = [
            {"group_type_id": record.id, "key": key, "value": value} | common
            for key, value in record.group_specs.items()
        ]
        connection.execute(GROUP_SPECS.insert(), rows)


def delete_group(connection: sa.Connection, group_id: str) -> None:
    """Remove the type that belongs to a group, if it has one."""
    connection.execute(GROUP_SPECS.delete().where(GROUP_SPECS.c.group_type_id == group_id))
    connection.execute(GROUP_TYPES.delete().where(GROUP_TYPES.c.id == group_id))


def mark_group_deleted(connection: sa.Connection, group_id: str, *, now: datetime) -> None:
    """Soft-delete the type that belongs to a group."""
    values: dict[str, Any] = {"deleted": True, "deleted_at": now}
    connection.execute(GROUP_SPECS.update().where(GROUP_SPECS.c.group_type_id == group_id).values(values))
    connection.execute(GROUP_TYPES.update().where(GROUP_TYPES.c.id == group_id).values(values))
