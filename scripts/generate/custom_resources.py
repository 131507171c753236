"""Writes the definitions of the custom resources: a schema per kind of record, from the record types themselves.

Descriptions are the docstrings of the records' fields, so that ``kubectl explain`` says what the code says.
"""

import ast
import inspect
import itertools
import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import EnumMeta
from pathlib import Path
from typing import Any

import backend_definition
import yaml

from csi_plugin.persistence import records
from csi_plugin.persistence.crd.kinds import BACKEND, GROUP, RESOURCES, VERSION, ResourceKind
from csi_plugin.persistence.crd.resource import camel_case
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Intent,
    KeyValueRecord,
    NodeRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)

TARGET = Path(__file__).parents[2] / "deploy" / "helm" / "cinderbox" / "crds"
HEADER = "# Generated from csi_plugin/persistence/records.py by `make crds`; do not edit.\n"
BACKEND_HEADER = "# Generated from scripts/generate/backend_definition.py by `make crds`; do not edit.\n"

Schema = dict[str, Any]
Columns = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What `kubectl get` shows of a kind."""

    description: str
    columns: Columns
    """Name and JSON path of the columns of `kubectl get`."""
    wide: Columns = ()
    """Those of `kubectl get -o wide`."""
    status: dict[str, tuple[str, str] | Schema] = field(default_factory=dict)
    """Type and description, or schema, of the status's fields, besides conditions."""
    fixed: tuple[str, ...] = ()
    """Fields of the record that never change."""


STATE: dict[str, tuple[str, str] | Schema] = {"state": ("string", "State of the object, as the driver serves it.")}
RESEALED_CONNECTIONS: Schema = {
    "description": "What volumes were published with, resealed because the node has another key, or name, now.",
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["volumeId"],
    "items": {
        "type": "object",
        "required": ["volumeId", "revision", "publicKey"],
        "properties": {
            "volumeId": {"type": "string", "description": "Id of the volume."},
            "revision": {"type": "integer", "format": "int64", "description": "Of the CinderConnection."},
            "publicKey": {"type": "string", "description": "Key that it is sealed to."},
            "sealed": {"type": "string", "description": "Readable for the node alone.", "format": "byte"},
            "refusal": {
                "type": "string",
                "description": "Why that is not there: all together do not fit into a resource.",
            },
        },
    },
}
NAMES: Schema = {
    "description": "Names and addresses by which arrays know it, or knew it, each since when.",
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "since"],
        "properties": {
            "name": {"type": "string", "description": "Initiator, NQN, port or address."},
            "since": {"type": "string", "description": "When the controller first saw it with that."},
        },
    },
}
SHOWN: dict[type[Record], Shown] = {
    VolumeRecord: Shown(
        description="A volume on the storage, as the driver has recorded it. What to edit is its claim.",
        columns=(
            ("State", ".status.state"),
            ("Size", ".status.size"),
            ("Backend", ".status.backend"),
            ("Pool", ".status.pool"),
            ("Nodes", ".status.attachedTo"),
            ("Claim", ".status.claim"),
        ),
        wide=(("Type", ".status.type"), ("Provider ID", ".spec.providerId"), ("Source", ".status.source")),
        status=STATE
        | {
            "size": ("string", "Size, as a quantity."),
            "backend": ("string", "Name of the backend that holds the volume."),
            "pool": ("string", "Pool inside the backend."),
            "nodes": ("array", "Nodes that the volume is published to."),
            "attachedTo": ("string", "The nodes in one text."),
            "claim": ("string", "namespace/name of the PersistentVolumeClaim that it was created for."),
            "persistentVolume": ("string", "Name of the PersistentVolume that it was created for."),
            "snapshots": ("integer", "Snapshots that need it."),
            "type": ("string", "Extra specs and QoS specs in one text."),
            "source": ("string", "snapshot/id or volume/id that it was created from."),
        },
        fixed=("id",),
    ),
    SnapshotRecord: Shown(
        description="A snapshot on the storage, as the driver has recorded it. What to edit is its VolumeSnapshot.",
        columns=(
            ("State", ".status.state"),
            ("Volume", ".spec.volumeId"),
            ("Size", ".status.size"),
            ("Snapshot", ".status.volumeSnapshot"),
        ),
        wide=(("Backend", ".spec.backend"), ("Provider ID", ".spec.providerId")),
        status=STATE
        | {
            "size": ("string", "Size of the volume when it was taken, as a quantity."),
            "volumeSnapshot": ("string", "namespace/name of the VolumeSnapshot that it was created for."),
            "clones": ("integer", "Volumes that were created from it and exist."),
        },
        fixed=("id", "volume_id"),
    ),
    ConnectionRecord: Shown(
        description="The export of a volume to a node. The VolumeAttachment, or the pod, is what to edit.",
        columns=(("State", ".status.state"), ("Volume", ".spec.volumeId"), ("Node", ".status.node")),
        wide=(("Mode", ".spec.attachMode"), ("Initiator", ".spec.connector.initiator")),
        status=STATE | {"node": ("string", "Node, or host outside of Kubernetes, that it is for.")},
        fixed=("id", "volume_id"),
    ),
    KeyValueRecord: Shown(
        description="A value that a Cinder driver, or the CSI driver itself, keeps.",
        columns=(("Key", ".spec.id"),),
        fixed=("id",),
    ),
    GroupRecord: Shown(
        description="A group of volumes that are snapshotted together.",
        columns=(("State", ".status.state"), ("Name", ".spec.name"), ("Volumes", ".status.volumes")),
        wide=(("Host", ".spec.host"),),
        status=STATE | {"volumes": ("integer", "Volumes in the group.")},
        fixed=("id",),
    ),
    GroupSnapshotRecord: Shown(
        description="Snapshots of a group's volumes, taken at one moment. Its VolumeGroupSnapshot is what to edit.",
        columns=(("State", ".status.state"), ("Group", ".spec.groupId"), ("Snapshots", ".status.snapshots")),
        wide=(("Backend", ".spec.backend"),),
        status=STATE | {"snapshots": ("integer", "Snapshots that it consists of.")},
        fixed=("id", "group_id"),
    ),
    NodeRecord: Shown(
        description="Who a node is on the storage network, as the node itself wrote it.",
        columns=(
            ("Initiator", ".spec.connector.initiator"),
            ("Volumes", ".status.volumes"),
            ("Limit", ".spec.maxVolumes"),
            ("Topology", ".status.topology"),
            ("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        ),
        wide=(("IP", ".spec.connector.ip"), ("NQN", ".spec.connector.nqn")),
        status={
            "volumes": ("integer", "Volumes that are published to it."),
            "published": {"description": "Their ids.", "type": "array", "items": {"type": "string"}},
            "topology": ("string", "Topology segments in one text."),
            "publicKey": ("string", "Key of the node that its connections were last compared with."),
            "connections": RESEALED_CONNECTIONS,
            "lastSeen": ("string", "When the controller last saw it write its spec."),
            "seenGeneration": ("integer", "metadata.generation at that time."),
            "names": NAMES,
        },
        fixed=("id",),
    ),
}
TYPES = dict.fromkeys((".status.volumes", ".spec.maxVolumes", ".status.snapshots"), "integer")
TYPES[".spec.suspend"] = "boolean"

CONDITIONS: Schema = {
    "description": "What is to be said about the object; Ready is always there.",
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {"type": "string", "description": "Name of the condition.", "maxLength": 316},
            "status": {"type": "string", "description": "Whether it holds.", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string", "description": "Why, in one word.", "maxLength": 1024},
            "message": {"type": "string", "description": "The reason, for humans.", "maxLength": 32768},
            "lastTransitionTime": {"type": "string", "format": "date-time", "description": "Since when."},
        },
    },
}


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, text in definitions().items():
        (TARGET / name).write_text(text)


def definitions() -> dict[str, str]:
    """File name and content of each definition."""
    made = {}
    for kind, names in RESOURCES.items():
        shown = SHOWN[kind]
        found = definition(names, columns(shown.columns, shown.wide), whole_schema(kind))
        made[f"{GROUP}_{names.plural}.yaml"] = HEADER + _text(found)
    shown_columns = columns(backend_definition.COLUMNS, backend_definition.WIDE)
    found = definition(BACKEND, shown_columns, backend_definition.schema(CONDITIONS))
    made[f"{GROUP}_{BACKEND.plural}.yaml"] = BACKEND_HEADER + _text(found)
    return made


def _text(found: Schema) -> str:
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(found, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True)


def definition(names: ResourceKind, shown_columns: list[Schema], schema: Schema) -> Schema:
    """A CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.kind,
                "listKind": f"{names.kind}List",
                "plural": names.plural,
                "singular": names.singular,
                "shortNames": [names.short_name],
                "categories": ["cinderbox"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": shown_columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def columns(usual: Columns, wide: Columns) -> list[Schema]:
    age = ("Age", ".metadata.creationTimestamp")
    made = []
    for priority, wanted in ((0, (*usual, age)), (1, wide)):
        for name, path in wanted:
            column: Schema = {"name": name, "type": TYPES.get(path, "string"), "jsonPath": path}
            if name == "Age":
                column["type"] = "date"
            made.append(column | ({"priority": priority} if priority else {}))
    return made


def whole_schema(kind: type[Record]) -> Schema:
    shown = SHOWN[kind]
    properties: Schema = {
        "apiVersion": {"type": "string", "description": "Version of this schema."},
        "kind": {"type": "string", "description": "Kind of this resource."},
        "metadata": {"type": "object"},
        "spec": object_schema(kind, "What the driver recorded; nobody else writes it.")
        | {"x-kubernetes-validations": rules(kind)},
    }
    if shown.status:
        status = {
            name: described if isinstance(described, dict) else status_field(*described)
            for name, described in shown.status.items()
        }
        status["conditions"] = CONDITIONS
        properties["status"] = {
            "type": "object",
            "description": "For humans; recreated from the records when it is lost.",
            "properties": status,
        }
    return {"type": "object", "description": shown.description, "required": ["spec"], "properties": properties}


def status_field(kind: str, description: str) -> Schema:
    items = {"items": {"type": "string"}} if kind == "array" else {}
    return {"type": kind, "description": description} | items


def rules(kind: type[Record]) -> list[Schema]:
    made = [
        {
            "rule": f"self.{camel_case(name)} == oldSelf.{camel_case(name)}",
            "message": f"{camel_case(name)} cannot be changed",
            "fieldPath": f".{camel_case(name)}",
        }
        for name in SHOWN[kind].fixed
    ]
    if kind is VolumeRecord:
        rule = "self.size >= oldSelf.size"
        made.append({"rule": rule, "message": "size cannot shrink: volumes only grow", "fieldPath": ".size"})
    return made


def object_schema(kind: Any, description: str) -> Schema:
    """Schema of a dataclass."""
    hints, docs = typing.get_type_hints(kind), docstrings(kind)
    properties = {
        camel_case(one.name): schema(hints[one.name]) | {"description": docs[one.name]} for one in fields(kind)
    }
    required = [camel_case(one.name) for one in fields(kind) if one.default is one.default_factory is MISSING]
    if kind is VolumeRecord:
        properties["size"]["minimum"] = 0
        required.append("size")
    return {"type": "object", "description": description, "required": required, "properties": properties}


def schema(hint: Any) -> Schema:
    """Schema of a field's type; a field that is None is left out of the resource."""
    if isinstance(hint, types.UnionType):
        alternatives = [alternative for alternative in hint.__args__ if alternative is not type(None)]
        # Clear or sealed: an object or a text.
        return schema(alternatives[0]) if len(alternatives) == 1 else {"x-kubernetes-preserve-unknown-fields": True}
    if hint is Intent:
        return object_schema(Intent, "")
    if isinstance(hint, EnumMeta):
        return {"type": "string", "enum": [member.value for member in hint]}  # type: ignore[var-annotated]
    plain = {
        str: {"type": "string"},
        int: {"type": "integer", "format": "int64"},
        bool: {"type": "boolean"},
        datetime: {"type": "string", "format": "date-time"},
        Any: {"x-kubernetes-preserve-unknown-fields": True},
    }
    if hint in plain:
        return dict(plain[hint])
    if typing.get_origin(hint) is list:
        return {"type": "array", "items": schema(typing.get_args(hint)[0])}
    _, value = typing.get_args(hint)
    if value is Any:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"type": "object", "additionalProperties": schema(value)}


def docstrings(kind: Any) -> dict[str, str]:
    """The docstrings of a dataclass's fields, on one line each. Raises KeyError for a field that has none."""
    found: dict[str, str] = {}
    classes = {node.name: node for node in ast.parse(inspect.getsource(records)).body if isinstance(node, ast.ClassDef)}
    for one in reversed(kind.__mro__[:-1]):
        body = classes[one.__name__].body
        for statement, following in itertools.pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                text = ast.literal_eval(following.value)
                found[ast.unparse(statement.target)] = " ".join(text.split())
    return {one.name: found[one.name] for one in fields(kind)}


if __name__ == "__main__":
    main()
