"""Records in the shape in which Cinder's database layer returns rows.

Cinder's versioned objects and drivers read rows by attribute and by key, and follow relationships from them. A
``Row`` offers both; relationships are looked up when they are first read.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from oslo_config import cfg

from csi_plugin.persistence.records import (
    CINDER_NAMES,
    JSON,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.persistence.sealing import Sealer

DEFAULT_TYPE_NAME = "__DEFAULT__"
DEFAULT_TYPE_ID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "default-volume-type.cinderbox.io"))
"""The type without specs that Cinder gives to volumes that drivers create for themselves."""

NOT_COLUMNS = {
    "revision",
    "intent",
    "metadata",
    "admin_metadata",
    "glance_metadata",
    "extra_specs",
    "qos_specs",
    "group_specs",
    "volume_type_ids",
    "backend",
    "node_id",
}
"""Record fields that Cinder's tables do not have as columns."""

"""Record fields whose column has another name in Cinder's model."""


class Row(Mapping[str, Any]):
    """One row. Columns and relationships are items and attributes alike; ``vars()`` shows what has been read."""

    def __init__(
        self, columns: Mapping[str, Any], relationships: Mapping[str, Callable[[], Any]] | None = None
    ) -> None:
        self.__dict__.update(columns)
        self.__dict__["_columns"] = tuple(columns)
        self.__dict__["_relationships"] = dict(relationships or {})

    def __getattr__(self, name: str) -> Any:
        load = self.__dict__.get("_relationships", {}).get(name)
        if load is None:
            raise AttributeError(name)
        value = load()
        self.__dict__[name] = value
        return value

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError as error:
            raise KeyError(key) from error

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def columns(record: Record) -> JSON:
    """The plain columns of a record's row."""
    found = {
        CINDER_NAMES.get(item.name, item.name): getattr(record, item.name)
        for item in fields(record)
        if item.name not in NOT_COLUMNS
    }
    return found | {"deleted": False, "deleted_at": None}


def entries(values: Mapping[str, Any]) -> list[Row]:
    """A dictionary as the rows of a key-value table."""
    return [Row({"key": key, "value": value}) for key, value in values.items()]


def volume_row(record: VolumeRecord, relationships: Mapping[str, Callable[[], Any]]) -> Row:
    name_id = record.name_id or record.id
    return Row(
        columns(record)
        | {
            "volume_type_id": type_id_of(record),
            "name_id": name_id,
            "name": cfg.CONF.volume_name_template % name_id,
            "volume_metadata": entries(record.metadata),
            "volume_admin_metadata": entries(record.admin_metadata),
            "volume_glance_metadata": entries(record.glance_metadata),
            "consistencygroup": None,
            "cluster": None,
        },
        relationships,
    )


def snapshot_row(record: SnapshotRecord, relationships: Mapping[str, Callable[[], Any]]) -> Row:
    added = {
        "name": cfg.CONF.snapshot_name_template % record.id,
        "snapshot_metadata": entries(record.metadata),
        "progress": record.backend,
        "cgsnapshot": None,
    }
    return Row(columns(record) | added, relationships)


def attachment_row(record: ConnectionRecord) -> Row:
    """``volume`` is left out on purpose: the versioned object loads it lazily when its row does not show it."""
    # What no key opens is no JSON: drivers find nothing there.
    info = None if Sealer.is_sealed(record.connection_info) else record.connection_info
    texts = {"connection_info": _text(info), "connector": _text(record.connector)}
    return Row(columns(record) | texts)


def group_row(record: GroupRecord, relationships: Mapping[str, Callable[[], Any]]) -> Row:
    return Row(columns(record), relationships)


def group_snapshot_row(record: GroupSnapshotRecord, relationships: Mapping[str, Callable[[], Any]]) -> Row:
    return Row(columns(record), relationships)


def type_id_of(record: VolumeRecord) -> str | None:
    """A volume with specs has a type of its own, with the volume's id, as cinderlib and the db plugin have it."""
    return record.volume_type_id or (record.id if record.extra_specs or record.qos_specs else None)


def type_of(record: VolumeRecord) -> JSON:
    """The volume type that carries a volume's specs, as the layer's functions on types return it."""
    type_id = type_id_of(record)
    specs = qos_of(record)
    return {
        "id": type_id,
        "name": type_id,
        "description": None,
        "is_public": True,
        "extra_specs": dict(record.extra_specs),
        "projects": [],
        "qos_specs_id": specs["id"] if specs else None,
        "qos_specs": specs,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "deleted": False,
        "deleted_at": None,
    }


def default_type() -> JSON:
    """The type without specs, as the layer's functions on types return it."""
    return {
        "id": DEFAULT_TYPE_ID,
        "name": DEFAULT_TYPE_NAME,
        "description": "Default Volume Type",
        "is_public": True,
        "extra_specs": {},
        "projects": [],
        "qos_specs_id": None,
        "qos_specs": None,
        "created_at": None,
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }


def qos_of(record: VolumeRecord) -> JSON | None:
    """The QoS specs of a volume, as the layer's functions on QoS specs return them."""
    if not record.qos_specs:
        return None
    specs = dict(record.qos_specs)
    consumer = specs.pop("consumer", "back-end")
    return {
        "id": record.id,
        "name": record.id,
        "consumer": consumer,
        "specs": specs,
        "created_at": record.created_at,
    }


def group_type_of(type_id: str, record: GroupRecord) -> JSON:
    """The group type that carries a group's specs."""
    return {
        "id": type_id,
        "name": type_id,
        "description": None,
        "is_public": True,
        "group_specs": dict(record.group_specs),
        "projects": [],
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "deleted": False,
        "deleted_at": None,
    }


def values_for(kind: type[Record], values: Mapping[str, Any]) -> JSON:
    """The record fields among the values that Cinder's layer is asked to write."""
    names = {item.name for item in fields(kind)} - {"revision", "id", "intent", "backend"}
    originals = {column: field for field, column in CINDER_NAMES.items()}
    found = {originals.get(key, key): value for key, value in values.items()}
    for name in ("connection_info", "connector"):
        if isinstance(found.get(name), str):
            found[name] = json.loads(found[name])
    return {key: value for key, value in found.items() if key in names}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
