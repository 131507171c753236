"""Whether a volume is in use follows from its connections, so that connecting it costs no write of the volume too."""

from dataclasses import replace
from typing import TypeVar

from csi_plugin.persistence.initiators import Find
from csi_plugin.persistence.records import ConnectionRecord, Record, VolumeRecord

R = TypeVar("R", bound=Record)


def without_use(record: R) -> R:
    """The record as it is kept."""
    if isinstance(record, VolumeRecord) and record.status == "in-use":
        return replace(record, status="available", attach_status="detached")
    return record


def with_use(record: R, find: Find) -> R:
    """The record as it is seen: in use from the moment a connection is complete until the last one is gone."""
    if not isinstance(record, VolumeRecord) or (record.status, record.attach_status) != ("available", "detached"):
        return record
    if all(found.attach_status == "attaching" for found in find(ConnectionRecord, volume_id=record.id)):
        return record
    return replace(record, status="in-use", attach_status="attached")
