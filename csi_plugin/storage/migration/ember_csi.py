"""What ember-csi kept in Kubernetes, as records: custom resources of the group ember-csi.io in one namespace.

Its Volume, Snapshot and Connection have cinderlib's JSON form of the object, whole or simplified, in the annotation
``json``; a KeyValue has its key as its name and its value in the annotation ``value``. Ids are Cinder's, which were the
handles of its PersistentVolumes and VolumeSnapshotContents too.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from oslo_versionedobjects.exception import VersionedObjectsException

from csi_plugin.persistence.base import RecordExists, RecordStore
from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.records import (
    JSON,
    ConnectionRecord,
    Intent,
    KeyValueRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage import codec
from csi_plugin.storage.cinder import objects_base
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.deferred_deletion import AWAITING_DEPENDANTS
from csi_plugin.storage.migration.copy_records import Progress

GROUP = "ember-csi.io"
VERSION = "v1"

_PROBE = ".probe"
_EVERY_CONNECTOR = ("platform", "os_type", "multipath")
"""Keys that os-brick's connector properties have on every host."""


@dataclass(frozen=True)
class Omitted:
    """A resource that is not imported."""

    kind: str
    name: str
    reason: str
    is_lost: bool
    """Whether it said something that is missing now; otherwise nobody needs it."""


class _Omit(Exception):
    def __init__(self, reason: str, *, is_lost: bool = True) -> None:
        super().__init__(reason)
        self.is_lost = is_lost


def open_api(*, namespace: str, kubeconfig: str | None) -> ResourceAPI:
    """The API server that has ember-csi's resources. Raises InvalidPersistence."""
    return ResourceAPI(GROUP, VERSION, namespace=namespace, kubeconfig=kubeconfig)


def import_records(api: ResourceAPI, target: RecordStore, *, omitted: Callable[[Omitted], None]) -> Iterator[Progress]:
    """Copy what ember-csi has recorded into a store; yields after each resource. ``omitted`` is told of those left out.

    It can be interrupted and run again: a record that the target has is left as it is. Neither ember-csi nor Cinderbox
    may be running. Nothing of ember-csi's is changed. Raises PersistenceError, also when the API server has no such
    resources.
    """
    for plural, kind, to_record in _KINDS:
        resources, _ = api.list_all(plural)
        copied = skipped = 0
        total = len(resources)
        yield Progress(kind.KIND, copied, skipped, total)
        for resource in resources:
            try:
                _check_owner(record := to_record(resource), target)
            except _Omit as error:
                total -= 1
                omitted(Omitted(kind.KIND, resource["metadata"]["name"], str(error), error.is_lost))
            else:
                try:
                    target.create(record)
                    copied += 1
                except RecordExists:
                    skipped += 1
            yield Progress(kind.KIND, copied, skipped, total)


def _check_owner(record: Record, target: RecordStore) -> None:
    if isinstance(record, SnapshotRecord | ConnectionRecord) and target.get(VolumeRecord, record.volume_id) is None:
        raise _Omit(f"its volume {record.volume_id} is not there")


def _volume(resource: JSON) -> VolumeRecord:
    record = codec.volume_to_record(_versioned_object(resource, "Volume"))
    if record.status == "deleted":
        # Deleted by its owner while snapshots needed it; ember-csi deleted it with the last of them, and so do we.
        record.status = AWAITING_DEPENDANTS
        name = record.display_name or record.id
        record.intent = Intent(name=name, phase=Phase.DEFERRED, condition="its snapshots need it")
    return record


def _snapshot(resource: JSON) -> SnapshotRecord:
    return codec.snapshot_to_record(_versioned_object(resource, "Snapshot"))


def _connection(resource: JSON) -> ConnectionRecord:
    ovo = _versioned_object(resource, "VolumeAttachment")
    return codec.connection_to_record(ovo, node_id=ovo.attached_host)


def _key_value(resource: JSON) -> KeyValueRecord:
    name, value = resource["metadata"]["name"], _annotation(resource, "value")
    if name.endswith(_PROBE):
        raise _Omit("ember-csi wrote it to see whether it can write", is_lost=False)
    if _is_connector(value):
        raise _Omit("it says who a node is, which nodes register by themselves", is_lost=False)
    return KeyValueRecord(id=name, value=value)


_KINDS: tuple[tuple[str, type[Record], Callable[[JSON], Record]], ...] = (
    ("volumes", VolumeRecord, _volume),
    ("snapshots", SnapshotRecord, _snapshot),
    ("connections", ConnectionRecord, _connection),
    ("keyvalues", KeyValueRecord, _key_value),
)
"""Each kind after those that it refers to."""


def _versioned_object(resource: JSON, name: str) -> Any:
    try:
        primitive = json.loads(_annotation(resource, "json"))["ovo"]
        found = primitive["versioned_object.name"]
        if found != name:
            raise _Omit(f"it holds a {found}, not a {name}")
        return objects_base.CinderObject.obj_from_primitive(primitive, CONTEXT)
    except (ValueError, KeyError, TypeError, AttributeError, VersionedObjectsException) as error:
        raise _Omit(f"its annotation json is not cinderlib's form of an object: {error!r}") from error


def _annotation(resource: JSON, name: str) -> str:
    try:
        return str(resource["metadata"]["annotations"][name])
    except (KeyError, TypeError):
        raise _Omit(f"it has no annotation {name}") from None


def _is_connector(value: str) -> bool:
    try:
        properties = json.loads(value)
    except ValueError:
        return False
    return isinstance(properties, dict) and all(key in properties for key in _EVERY_CONNECTOR)
