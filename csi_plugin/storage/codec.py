"""Records to Cinder's versioned objects and the library's objects, and back.

A versioned object made from a record has its plain fields set and its relations (snapshots, attachments, group) left
out: Cinder loads those on access.
"""

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from csi_plugin.known_secrets import keep_secrets_of_driver
from csi_plugin.persistence.records import (
    CINDER_NAMES,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage.cinder import objects, objects_base
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import class_of, object_of

# Fields of records that versioned objects do not have under that name.
_OWN = {"revision", "intent", "extra_specs", "qos_specs", "node_id", "backend", "group_specs"}


def to_object(record: Record) -> Any:
    """The library's object for a record: Volume, Snapshot, Connection, KeyValue, Group or GroupSnapshot."""
    return class_of(type(record)).from_record(record)


def known_object(record: Record) -> Any:
    """The same, as programs get it: with the memory plugin, the object of that id that is in use."""
    return object_of(record)


def note_stored(obj: Any, record: Record) -> None:
    """Let an object know that it was stored as this record, without its own save()."""
    if isinstance(record, KeyValueRecord):
        obj.revision = record.revision
        return
    obj._note_stored(record)
    take_stored(obj._ovo, record)


def take_stored(ovo: Any, record: Record) -> None:
    """Give a versioned object what it did not say itself when it was stored as this record: the times, and the values
    that stand for None in fields that a record cannot have empty. So it says what one that is read from there says."""
    values: dict[str, Any] = {"created_at": record.created_at, "updated_at": record.updated_at}
    for name, value in _plain(record, type(ovo)).items():
        if value is not None and ovo.obj_attr_is_set(name) and getattr(ovo, name) is None:
            values[name] = value
    for name, value in values.items():
        setattr(ovo, name, value)
    ovo.obj_reset_changes(tuple(values))


def to_record(obj: Any) -> Any:
    """The record of one of the library's objects, as it would be stored now."""
    return obj.record


def volume_to_ovo(record: VolumeRecord) -> Any:
    """Cinder's Volume for a record, with its type where it has specs."""
    ovo = objects.Volume(context=CONTEXT, **_plain(record, objects.Volume))
    if record.volume_type_id or record.extra_specs or record.qos_specs:
        type_id = record.volume_type_id or record.id
        ovo.volume_type_id = type_id
        ovo.volume_type = volume_type(type_id, record.extra_specs, record.qos_specs)
    reset_changes(ovo)
    return ovo


def volume_type(type_id: str, extra_specs: dict[str, str], qos_specs: dict[str, str] | None) -> Any:
    """A volume type of one volume's own, as cinderlib created them: type, QoS and volume share one id."""
    qos = None
    if qos_specs:
        qos = objects.QualityOfServiceSpecs(
            context=CONTEXT, id=type_id, name=type_id, consumer="back-end", specs=dict(qos_specs)
        )
    return objects.VolumeType(
        context=CONTEXT,
        id=type_id,
        name=type_id,
        is_public=True,
        extra_specs=dict(extra_specs),
        qos_specs_id=type_id if qos else None,
        qos_specs=qos,
    )


def volume_to_record(ovo: Any) -> VolumeRecord:
    record = VolumeRecord(**_values(ovo, VolumeRecord))
    if ovo.obj_attr_is_set("volume_type") and ovo.volume_type:
        record.extra_specs = dict(ovo.volume_type.extra_specs or {})
        qos = ovo.volume_type.qos_specs if ovo.volume_type.obj_attr_is_set("qos_specs") else None
        record.qos_specs = dict(qos.specs) if qos else {}
    return record


def snapshot_to_ovo(record: SnapshotRecord) -> Any:
    """Cinder's Snapshot; like cinderlib's, it carries the backend's name in ``progress``."""
    values = _plain(record, objects.Snapshot)
    ovo = objects.Snapshot(context=CONTEXT, progress=record.backend, **values)
    reset_changes(ovo)
    return ovo


def snapshot_to_record(ovo: Any) -> SnapshotRecord:
    values = _values(ovo, SnapshotRecord)
    values["backend"] = ovo.progress if ovo.obj_attr_is_set("progress") and ovo.progress else ""
    return SnapshotRecord(**values)


def connection_to_ovo(record: ConnectionRecord) -> Any:
    values = _plain(record, objects.VolumeAttachment)
    if record.node_id:
        values["attached_host"] = record.node_id
    ovo = objects.VolumeAttachment(context=CONTEXT, **values)
    reset_changes(ovo)
    return ovo


def connection_to_record(ovo: Any, *, node_id: str | None) -> ConnectionRecord:
    values = _values(ovo, ConnectionRecord)
    for name in ("connection_info", "connector"):
        values[name] = dict(values[name]) if values.get(name) else None
    values.setdefault("attach_status", "attached")  # cinderlib never set it, and kept what was connected alone
    return ConnectionRecord(node_id=node_id, **values)


def group_to_ovo(record: GroupRecord) -> Any:
    ovo = objects.Group(context=CONTEXT, **_plain(record, objects.Group))
    reset_changes(ovo)
    return ovo


def group_to_record(ovo: Any, *, group_specs: dict[str, str]) -> GroupRecord:
    return GroupRecord(group_specs=dict(group_specs), **_values(ovo, GroupRecord))


def group_snapshot_to_ovo(record: GroupSnapshotRecord) -> Any:
    ovo = objects.GroupSnapshot(context=CONTEXT, **_plain(record, objects.GroupSnapshot))
    reset_changes(ovo)
    return ovo


def group_snapshot_to_record(ovo: Any, *, backend: str) -> GroupSnapshotRecord:
    return GroupSnapshotRecord(backend=backend, **_values(ovo, GroupSnapshotRecord))


def _plain(record: Record, ovo_class: Any) -> dict[str, Any]:
    """The record's fields under the versioned object's names."""
    keep_secrets_of_driver({name: getattr(record, name) for name in record.SECRET})
    values = {}
    for item in fields(record):
        name = CINDER_NAMES.get(item.name, item.name)
        if item.name not in _OWN and name in ovo_class.fields:
            value = getattr(record, item.name)
            values[name] = value.copy() if isinstance(value, dict | list) else value
    values.update(deleted=False, deleted_at=None)
    return values


def _values(ovo: Any, record_class: type[Record]) -> dict[str, Any]:
    """The versioned object's set fields under the record's names; None falls back to the record's default."""
    values = {}
    for item in fields(record_class):
        name = CINDER_NAMES.get(item.name, item.name)
        if item.name in _OWN or name not in ovo.fields or isinstance(ovo.fields[name], objects_base.fields.ObjectField):
            continue
        if ovo.obj_attr_is_set(name):
            value = getattr(ovo, name)
            if value is not None:
                values[item.name] = dict(value) if isinstance(value, dict) else value
    return values


def take_fields(ovo: Any, record: Record, *, but: Collection[str] = ()) -> None:
    """Give a versioned object the plain fields of its record where they differ, ``but`` those."""
    for name, value in _plain(record, type(ovo)).items():
        if name not in but and (not ovo.obj_attr_is_set(name) or getattr(ovo, name) != value):
            setattr(ovo, name, value)
            ovo.obj_reset_changes((name,))
    if isinstance(record, VolumeRecord) and "volume_type" not in but:
        present = volume_to_record(ovo)
        if (present.extra_specs, present.qos_specs) != (record.extra_specs, record.qos_specs):
            type_id = record.volume_type_id or record.id
            ovo.volume_type = volume_type(type_id, record.extra_specs, record.qos_specs)
            reset_changes_of_type(ovo)


def reset_changes(ovo: Any) -> None:
    """Mark a versioned object and its type as saved; its other relatives have records of their own."""
    ovo.obj_reset_changes()
    reset_changes_of_type(ovo)


def reset_changes_of_type(ovo: Any) -> None:
    """Mark the type of a versioned object, if it has one, as saved."""
    if "volume_type" in ovo.fields and ovo.obj_attr_is_set("volume_type") and ovo.volume_type:
        ovo.volume_type.obj_reset_changes()
        if ovo.volume_type.obj_attr_is_set("qos_specs") and ovo.volume_type.qos_specs:
            ovo.volume_type.qos_specs.obj_reset_changes()
