"""Which custom resource each kind of record is kept in, and what it is called."""

import hashlib
import re
from dataclasses import dataclass

from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    NodeRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)

GROUP = "cinderbox.io"
VERSION = "v1"
FINALIZER = f"{GROUP}/record"
"""Kept on every resource that says what is on the storage, until its deletion is recorded or a person's is granted."""
ALLOW_DELETE = f"{GROUP}/allow-delete"
"""Annotation ("true") by which a person may delete a resource; what it describes stays on the storage."""
WRITE = f"{GROUP}/write"
"""Annotation that tells a write whose answer was lost from another's."""

EPOCH = f"{GROUP}/epoch"
"""Annotation of what a controller has written: which term of the Lease it was in (``leaseTransitions``)."""


@dataclass(frozen=True, kw_only=True)
class ResourceKind:
    """Names of a custom resource."""

    kind: str
    short_name: str

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def plural(self) -> str:
        return f"{self.singular}s"


RESOURCES: dict[type[Record], ResourceKind] = {
    VolumeRecord: ResourceKind(kind="CinderVolume", short_name="cvol"),
    SnapshotRecord: ResourceKind(kind="CinderSnapshot", short_name="csnap"),
    ConnectionRecord: ResourceKind(kind="CinderConnection", short_name="cconn"),
    KeyValueRecord: ResourceKind(kind="CinderKeyValue", short_name="ckv"),
    GroupRecord: ResourceKind(kind="CinderGroup", short_name="cgrp"),
    GroupSnapshotRecord: ResourceKind(kind="CinderGroupSnapshot", short_name="cgsnap"),
    NodeRecord: ResourceKind(kind="CinderNode", short_name="cnode"),
}

BACKEND = ResourceKind(kind="CinderBackend", short_name="cbackend")
"""Not a record: administrators write it."""
ACCEPT_MISSING = f"{GROUP}/accept-missing-volumes"
"""Annotation of a CinderBackend: "true" lets a configuration come into force that does not find its volumes."""
FORGET = f"{GROUP}/forget"
"""Annotation ("true") by which a person lets a backend go that has volumes; they stay on the storage."""

# RFC 1123 subdomains, which names of resources are, without those that look like our own for other ids.
_NAME = re.compile(r"(?!id-[0-9a-f]{40}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_NAME_LIMIT = 253


def resource_name(record_id: str) -> str:
    """The name of a record's resource: its id, or a hash of ids that cannot be names. One id has one name."""
    if len(record_id) <= _NAME_LIMIT and _NAME.fullmatch(record_id):
        return record_id
    return f"id-{hashlib.sha256(record_id.encode()).hexdigest()[:40]}"
