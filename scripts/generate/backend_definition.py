"""The schema of CinderBackend: the one custom resource that people write."""

from typing import Any

Schema = dict[str, Any]

DESCRIPTION = "A storage backend: a Cinder driver with its options. People write spec, the driver writes status."
COLUMNS = (
    ("Driver", ".spec.driver"),
    ("Ready", '.status.conditions[?(@.type=="Ready")].status'),
    ("Volumes", ".status.volumes"),
    ("Capacity", ".status.capacity"),
    ("Free", ".status.free"),
    ("Suspended", ".spec.suspend"),
)
WIDE = (
    ("Up to date", '.status.conditions[?(@.type=="UpToDate")].status'),
    ("Pools", ".status.poolNames"),
    ("Error", ".status.lastError"),
)

RULES = [
    {
        "rule": "self.metadata.name.size() <= 63",
        "message": "the name of a CinderBackend must have at most 63 characters",
    },
    {
        "rule": "self.spec.driver == oldSelf.spec.driver || !has(self.status)"
        " || (self.status.?volumes.orValue(0) == 0 && self.status.?snapshots.orValue(0) == 0)",
        "message": "driver cannot be changed while volumes or snapshots are on the backend: make another CinderBackend",
        "fieldPath": ".spec.driver",
    },
]


def schema(conditions: Schema) -> Schema:
    """The whole schema, given that of conditions."""
    return {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this schema."},
            "kind": {"type": "string", "description": "Kind of this resource."},
            "metadata": {"type": "object"},
            "spec": SPEC,
            "status": _status(conditions),
        },
        "x-kubernetes-validations": RULES,
    }


SPEC: Schema = {
    "type": "object",
    "description": "What the backend is to be. The name of the resource is the name of the backend.",
    "required": ["driver"],
    "properties": {
        "driver": {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "description": "Class path of a Cinder volume driver, or its class name. It stays while volumes are on the "
            "backend.",
        },
        "options": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "description": "Options of the driver by name: text, numbers, booleans, or lists of them. They are checked "
            "against the driver's own definitions. Passwords belong into a Secret.",
        },
        "secretRef": {
            "type": "object",
            "description": "More options, out of a Secret of this namespace. Its changes are followed within seconds.",
            "required": ["name"],
            "properties": {
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 253,
                    "description": "Name of the Secret. Its keys are names of options.",
                }
            },
        },
        "suspend": {
            "type": "boolean",
            "default": False,
            "description": "Take no new volumes. Everything else goes on.",
        },
        "topology": {
            "type": "array",
            "maxItems": 64,
            "items": {"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string"}},
            "description": "CSI topology segments from which the volumes can be reached; everywhere when empty.",
        },
        "maxConcurrentOperations": {
            "type": "integer",
            "minimum": 1,
            "maximum": 10000,
            "description": "Calls to the driver that may run at once; 32 by default.",
        },
    },
}


def _status(conditions: Schema) -> Schema:
    text: Schema = {"type": "string"}
    return {
        "type": "object",
        "description": "How the backend is.",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation of the resource that this is about.",
            },
            "conditions": conditions
            | {
                "description": "Ready: whether it serves. UpToDate: whether it serves as spec and Secret have it now, "
                "or as they had it before. DeletionHeld: why it stays after its deletion."
            },
            "volumes": {"type": "integer", "description": "Volumes that are recorded on it."},
            "snapshots": {"type": "integer", "description": "Snapshots that are recorded on it."},
            "capacity": text | {"description": "Size of all pools, as a quantity, or infinite or unknown."},
            "free": text | {"description": "Free room of all pools, as a quantity, or infinite or unknown."},
            "pools": {
                "type": "array",
                "description": "Its pools, as the driver reported them last.",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": text | {"description": "Name of the pool."},
                        "capacity": text | {"description": "Size, as a quantity, or infinite or unknown."},
                        "free": text | {"description": "Free room, as a quantity, or infinite or unknown."},
                    },
                },
            },
            "poolNames": text | {"description": "The pools in one text."},
            "lastError": text | {"description": "What is wrong now; passwords are masked."},
        },
    }
