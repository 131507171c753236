"""Records as custom resources, and back. ``spec`` alone makes the record: ``status`` is for humans."""

import re
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any

from csi_plugin.persistence.crd.kinds import (
    ALLOW_DELETE,
    EPOCH,
    FINALIZER,
    GROUP,
    RESOURCES,
    VERSION,
    WRITE,
    resource_name,
)
from csi_plugin.persistence.crd.volume_use import without_use
from csi_plugin.persistence.encoding import from_json, to_json
from csi_plugin.persistence.records import (
    JSON,
    NAMES_SINCE,
    ConnectionRecord,
    Intent,
    KeyValueRecord,
    NodeRecord,
    Phase,
    Record,
    VolumeRecord,
)

BACKEND_LABEL = f"{GROUP}/backend"
CLAIM_LABEL = f"{GROUP}/claim"
CLAIM_NAMESPACE_LABEL = f"{GROUP}/claim-namespace"

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PROVISIONER = "csi.storage.k8s.io/"


@dataclass(frozen=True, slots=True)
class RecordResource:
    """A record as the API server has it."""

    record: Record
    metadata: JSON
    """Without managedFields."""
    status: JSON

    @property
    def version(self) -> int:
        """resourceVersion. Kubernetes lets it be compared as a number since 1.35, and etcd always did."""
        return int(self.metadata["resourceVersion"])

    @property
    def uid(self) -> str:
        return str(self.metadata["uid"])

    @property
    def finalizers(self) -> list[str]:
        return list(self.metadata.get("finalizers") or [])

    @property
    def has_finalizer(self) -> bool:
        """Whether our finalizer keeps it from being deleted."""
        return FINALIZER in self.finalizers

    @property
    def is_deleting(self) -> bool:
        return "deletionTimestamp" in self.metadata

    @property
    def allows_deletion(self) -> bool:
        return (self.metadata.get("annotations") or {}).get(ALLOW_DELETE) == "true"

    @property
    def epoch(self) -> int:
        """The term of the Lease in which a controller wrote it last; people can write this too."""
        text = (self.metadata.get("annotations") or {}).get(EPOCH, "")
        return int(text) if text.isdecimal() else 0

    def was_written_by(self, write: str) -> bool:
        return (self.metadata.get("annotations") or {}).get(WRITE) == write


def parse_resource(kind: type[Record], resource: JSON) -> RecordResource:
    """What a custom resource holds. Raises ValueError or TypeError for one that no record can be made of, or that has
    another record's name: rights are given by name, and records are found by id."""
    metadata = {name: value for name, value in resource["metadata"].items() if name != "managedFields"}
    spec = resource.get("spec") or {}
    if kind is NodeRecord and isinstance(connector := spec.get("connector"), dict):
        spec = spec | {"connector": {name: value for name, value in connector.items() if _is_flat(value)}}
    record = without_use(decode(kind, spec))
    if metadata["name"] != resource_name(record.id):
        raise ValueError(f"spec.id is {record.id!r}, whose record has the name {resource_name(record.id)}")
    if isinstance(record, NodeRecord):
        # Nodes write these themselves: what they say of time is nothing to go by.
        record.created_at, record.updated_at = datetime.fromisoformat(metadata["creationTimestamp"]), None
        record.connector.pop(NAMES_SINCE, None)
    return RecordResource(record, metadata, resource.get("status") or {})


def _is_flat(value: Any) -> bool:
    """Whether a value of a node's connector may be one: those that are deeper are too deep for much that reads them."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(part, dict | list) for part in parts)


def new_resource(record: Record, *, namespace: str, write: str, epoch: int = 0) -> JSON:
    """The resource that create() sends; ``epoch``: 0 for a writer that holds no Lease."""
    metadata = {"name": resource_name(record.id), "namespace": namespace}
    return _resource(record, metadata, write, epoch)


def next_resource(record: Record, present: RecordResource, *, write: str, epoch: int = 0) -> JSON:
    """The resource that update() sends: the present one's metadata, with its resourceVersion, and the new record."""
    return _resource(record, present.metadata, write, epoch)


def encode(record: Record | Intent) -> JSON:
    """A spec: the fields in camelCase without those that are None."""
    encoded: JSON = {}
    data = to_json(record)
    kind: Any = type(record)
    for name, camel in _camel_names(kind).items():
        value = data[name]
        if value is None:
            continue
        encoded[camel] = encode(record.intent) if name == "intent" else value  # type: ignore[union-attr]
    return encoded


def decode(kind: Any, spec: JSON) -> Any:
    """The record or Intent of a spec; what it does not know is left out."""
    data = {name: spec[camel] for name, camel in _camel_names(kind).items() if camel in spec}
    intent = data.pop("intent", None)
    record = from_json(kind, data)
    if intent is not None:
        record.intent = decode(Intent, intent)
    return record


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def claim(record: Record) -> tuple[str, str]:
    """Namespace and name of the claim (or VolumeSnapshot) that an object was made for; empty when unknown."""
    metadata: dict[str, str] = getattr(record, "metadata", {})
    kind = "pvc" if isinstance(record, VolumeRecord) else "volumesnapshot"
    return metadata.get(f"{_PROVISIONER}{kind}/namespace", ""), metadata.get(f"{_PROVISIONER}{kind}/name", "")


def _resource(record: Record, metadata: JSON, write: str, epoch: int) -> JSON:
    names = RESOURCES[type(record)]
    metadata = dict(metadata)
    # A command's write is in no term, so it keeps none: that of the write before may be over.
    kept = {name: value for name, value in (metadata.get("annotations") or {}).items() if name != EPOCH}
    metadata["annotations"] = kept | {WRITE: write} | ({EPOCH: str(epoch)} if epoch else {})
    others = {name: value for name, value in (metadata.get("labels") or {}).items() if name not in _LABELS}
    metadata["labels"] = others | _labels(record)
    finalizers = [name for name in metadata.get("finalizers") or [] if name != FINALIZER]
    # A deletion that is recorded goes on by itself: the finalizer goes with that write rather than in one of its own.
    metadata["finalizers"] = finalizers if _is_going(record) else [*finalizers, FINALIZER]
    if isinstance(record, NodeRecord):
        connector = {name: value for name, value in record.connector.items() if name != NAMES_SINCE}
        record = replace(record, connector=connector)
    spec = encode(without_use(record))
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": names.kind, "metadata": metadata, "spec": spec}


_LABELS = (BACKEND_LABEL, CLAIM_LABEL, CLAIM_NAMESPACE_LABEL)


def _labels(record: Record) -> dict[str, str]:
    namespace, name = claim(record)
    labels = {BACKEND_LABEL: getattr(record, "backend", ""), CLAIM_LABEL: name, CLAIM_NAMESPACE_LABEL: namespace}
    # What no label can hold is left to the status, which can.
    return {label: value for label, value in labels.items() if _LABEL_VALUE.fullmatch(value)}


def _is_going(record: Record) -> bool:
    """Whether losing the record would lose nothing: its deletion is under way, or it can be made again."""
    if isinstance(record, NodeRecord | KeyValueRecord):
        return isinstance(record, NodeRecord)
    if isinstance(record, ConnectionRecord):
        return record.attach_status == "error_detaching"
    intent: Intent | None = getattr(record, "intent", None)
    if intent is not None and intent.phase in (Phase.DELETING, Phase.DEFERRED):
        return intent.phase is Phase.DELETING
    return getattr(record, "status", "") == "deleting"


@cache
def _camel_names(kind: Any) -> dict[str, str]:
    return {field.name: camel_case(field.name) for field in fields(kind)}
