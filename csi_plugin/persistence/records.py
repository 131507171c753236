"""The record types that every persistence plugin keeps.

A record is plain data: no behaviour, no Cinder class, nothing that JSON cannot hold except aware UTC
datetimes. Field names are those of Cinder's versioned objects (``display_name``, ``provider_location``...),
so that a record and the object it was made from read alike. Sizes are GiB, as everywhere in Cinder.

Fields in ``SECRET`` are sealed before a record reaches a plugin (see ``sealing``); fields in ``KEYS`` are
those that ``RecordStore.find`` answers by a keyed read.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

JSON = dict[str, Any]


class Phase(StrEnum):
    """Where an object stands in its life as CSI sees it; Cinder's own ``status`` is kept beside it."""

    CREATING = "creating"
    """The intent is recorded; the driver may or may not have made the object."""
    READY = "ready"
    DELETING = "deleting"
    """Deletion was recorded; it is finished after a crash."""
    DEFERRED = "deferred"
    """Deleted for the CO; the driver's delete waits for the last dependant to go."""
    LEFTOVER = "leftover"
    """An interrupted try that a later generation replaced; see the controller's recovery."""


@dataclass(kw_only=True, slots=True)
class Intent:
    """What a CSI request asked for, kept with the object made for it.

    Absent (``None``) on objects that the library made without CSI.
    """

    name: str
    """The name the CO gave (CreateVolumeRequest.name and its siblings)."""
    generation: int = 1
    """Counts the tries of one name; the object's id is UUIDv5(instance namespace, kind, name, generation)."""
    fingerprint: str = ""
    """SHA-256 over the normalised request without its secrets; equal fingerprints mean the same request."""
    phase: Phase = Phase.CREATING
    request: JSON = field(default_factory=dict)
    """The normalised request without secrets: parameters, capabilities, source, capacity range..."""
    context: dict[str, str] = field(default_factory=dict)
    """The volume_context of the first answer."""
    topology: list[dict[str, str]] = field(default_factory=list)
    """accessible_topology of the first answer."""
    ended_at: datetime | None = None
    """When the try was found to have ended without success; starts the undo window of a leftover."""
    condition: str = ""
    """For people: why a leftover is held, or why a deletion waits."""


@dataclass(kw_only=True, slots=True)
class Record:
    """What all records share. ``revision`` 0 means never stored; each successful write adds one."""

    KIND: ClassVar[str]
    KEYS: ClassVar[tuple[str, ...]] = ()
    SECRET: ClassVar[tuple[str, ...]] = ()

    id: str
    revision: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(kw_only=True, slots=True)
class VolumeRecord(Record):
    KIND: ClassVar[str] = "volume"
    KEYS: ClassVar[tuple[str, ...]] = (
        "display_name",
        "backend",
        "csi_name",
        "source_volid",
        "snapshot_id",
        "group_id",
    )
    SECRET: ClassVar[tuple[str, ...]] = ("provider_auth",)

    host: str = ""
    """host@backend#pool, as Cinder writes it; ``backend`` and ``pool`` are read from it."""
    size: int = 1
    status: str = "creating"
    attach_status: str = "detached"
    display_name: str | None = None
    display_description: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    name_id: str | None = None
    ec2_id: str | None = None
    use_quota: bool = True
    snapshot_id: str | None = None
    source_volid: str | None = None
    group_id: str | None = None
    consistencygroup_id: str | None = None
    cluster_name: str | None = None
    availability_zone: str | None = None
    migration_status: str | None = None
    previous_status: str | None = None
    replication_status: str | None = None
    replication_extended_status: str | None = None
    replication_driver_data: str | None = None
    provider_id: str | None = None
    provider_location: str | None = None
    provider_auth: str | None = None
    provider_geometry: str | None = None
    encryption_key_id: str | None = None
    bootable: bool = False
    multiattach: bool = False
    service_uuid: str | None = None
    shared_targets: bool | None = None
    scheduled_at: datetime | None = None
    launched_at: datetime | None = None
    terminated_at: datetime | None = None
    volume_type_id: str | None = None
    extra_specs: dict[str, str] = field(default_factory=dict)
    qos_specs: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    admin_metadata: dict[str, str] = field(default_factory=dict)
    glance_metadata: dict[str, str] = field(default_factory=dict)
    intent: Intent | None = None

    @property
    def backend(self) -> str:
        """Name of the backend that holds the volume."""
        return self.host.split("#")[0].split("@")[-1]

    @property
    def pool(self) -> str:
        """Name of the pool inside the backend; empty when the host names none."""
        return self.host.partition("#")[2]

    @property
    def csi_name(self) -> str | None:
        return self.intent.name if self.intent else None


@dataclass(kw_only=True, slots=True)
class SnapshotRecord(Record):
    KIND: ClassVar[str] = "snapshot"
    KEYS: ClassVar[tuple[str, ...]] = ("display_name", "volume_id", "csi_name", "group_snapshot_id")
    SECRET: ClassVar[tuple[str, ...]] = ("provider_auth",)

    volume_id: str
    backend: str = ""
    """Name of the backend (cinderlib kept it in the versioned object's ``progress``)."""
    volume_size: int = 1
    status: str = "creating"
    display_name: str | None = None
    display_description: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    use_quota: bool = True
    cgsnapshot_id: str | None = None
    group_snapshot_id: str | None = None
    encryption_key_id: str | None = None
    volume_type_id: str | None = None
    provider_id: str | None = None
    provider_location: str | None = None
    provider_auth: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    intent: Intent | None = None

    @property
    def csi_name(self) -> str | None:
        return self.intent.name if self.intent else None


@dataclass(kw_only=True, slots=True)
class ConnectionRecord(Record):
    KIND: ClassVar[str] = "connection"
    KEYS: ClassVar[tuple[str, ...]] = ("volume_id", "node_id")
    SECRET: ClassVar[tuple[str, ...]] = ("connection_info",)

    volume_id: str
    node_id: str | None = None
    """CSI node the volume is published to; None for connections that the library made."""
    instance_uuid: str | None = None
    attached_host: str | None = None
    mountpoint: str | None = None
    attach_time: datetime | None = None
    detach_time: datetime | None = None
    attach_status: str = "attaching"
    """attaching: intent only, the driver may have been called; attached; error_detaching: a disconnect was begun and
    not finished (the word that Cinder's field allows)."""
    attach_mode: str | None = None
    connection_info: JSON | str | None = None
    """cinderlib's: {'conn': driver's answer, 'connector': properties, 'device': ...}; a str once sealed."""
    connector: JSON | None = None


@dataclass(kw_only=True, slots=True)
class KeyValueRecord(Record):
    """``id`` is the key. Keys that begin with ``cinderbox/`` are reserved."""

    KIND: ClassVar[str] = "key_value"
    value: str | None = None


@dataclass(kw_only=True, slots=True)
class GroupRecord(Record):
    KIND: ClassVar[str] = "group"
    KEYS: ClassVar[tuple[str, ...]] = ("name",)

    host: str = ""
    name: str | None = None
    description: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    cluster_name: str | None = None
    availability_zone: str | None = None
    group_type_id: str | None = None
    group_specs: dict[str, str] = field(default_factory=dict)
    volume_type_ids: list[str] = field(default_factory=list)
    status: str = "creating"
    group_snapshot_id: str | None = None
    source_group_id: str | None = None
    replication_status: str | None = None

    @property
    def backend(self) -> str:
        return self.host.split("#")[0].split("@")[-1]


@dataclass(kw_only=True, slots=True)
class GroupSnapshotRecord(Record):
    KIND: ClassVar[str] = "group_snapshot"
    KEYS: ClassVar[tuple[str, ...]] = ("name", "group_id", "csi_name")

    group_id: str
    backend: str = ""
    name: str | None = None
    description: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    group_type_id: str | None = None
    status: str = "creating"
    intent: Intent | None = None

    @property
    def csi_name(self) -> str | None:
        return self.intent.name if self.intent else None


@dataclass(kw_only=True, slots=True)
class NodeRecord(Record):
    """A CSI node that registered itself; ``id`` is its node_id."""

    KIND: ClassVar[str] = "node"
    connector: JSON = field(default_factory=dict)
    """os-brick's connector properties (initiator, wwpns, nqn, ip, host...)."""
    public_key: str = ""
    """Base64 of the node's raw X25519 public key; connections are sealed to it."""
    topology: dict[str, str] = field(default_factory=dict)
    max_volumes: int = 0
    """Volumes that can be published to it at the same time; 0: no limit."""


RECORD_TYPES: tuple[type[Record], ...] = (
    VolumeRecord,
    SnapshotRecord,
    ConnectionRecord,
    KeyValueRecord,
    GroupRecord,
    GroupSnapshotRecord,
    NodeRecord,
)
