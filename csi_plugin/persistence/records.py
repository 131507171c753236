"""The record types that every persistence plugin keeps.

A record is plain data: no behaviour, no Cinder class, nothing that JSON cannot hold except aware UTC
datetimes. Field names are those of Cinder's versioned objects (``display_name``, ``provider_location``...),
so that a record and the object it was created from read alike. Sizes are GiB, as everywhere in Cinder.

Fields in ``SECRET`` are sealed before a record reaches a plugin (see ``sealing``); fields in ``KEYS`` are
those that ``RecordStore.find`` answers by a keyed read.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

JSON = dict[str, Any]

CINDER_NAMES = {"name_id": "_name_id"}
"""Fields that Cinder's objects and tables have under another name."""

PUBLIC_KEY = "csi_public_key"
"""Entry of a connection's connector; drivers ignore what they don't know."""

RENEWED = "csi_renewed"
"""Entry of a connection's connector (true): the volume was exported anew since it was published, as the storage knows
the node by another name; its publish_context tells of the former export."""

FORMATTED = "cinderbox.io/formatted"
"""Key in a volume's admin_metadata, or a snapshot's metadata: it has had a filesystem, and is never given another."""

LUKS_HEADER_GIB = "cinderbox.io/luks-header-gib"
"""Key in the same places: so many GiB of an encrypted volume are for its header, on top of what the CO asked for."""

REQUESTED_BYTES = "cinderbox.io/requested-bytes"
"""Key in the same places: the size that the CO asked for, where it is not in whole GiB."""

TRUE_BYTES = "cinderbox.io/true-bytes"
"""Key in a volume's admin_metadata: its size in bytes, where it was adopted and is less than the recorded whole GiB."""

ADOPTED = "cinderbox.io/adopted"
"""Key in a volume's admin_metadata while it is being adopted: the reference, as JSON, by which the storage had it."""

OWN_KEYS = "cinderbox/"
"""What keys of key-values begin with that Cinderbox keeps for itself."""
INSTANCE_KEY = "cinderbox/instance"
"""The key-value that says of which installation the records are."""
DRIVER_NAME_KEY = "cinderbox/driver-name"
"""The key-value with the CSI driver's name, which PersistentVolumes carry."""

UNDER_WAY = "cinderbox.io/under-way"
"""Key in a volume's admin_metadata: what its driver was told to do with it, while it stays what it is for all others
("retype"). After a crash it stays until recovery clears it."""

FORMATTED_VOLUMES = "csi_formatted_volumes"
"""Entry of a node's connector, where nodes write their own record: ids of volumes that it found or made a filesystem
on."""


NAMES_SINCE = "csi_names_since"
"""Entry of a node's connector, which the controller alone writes: since when the node has had those of its names that
it has not had from the beginning, or has no more."""


class Phase(StrEnum):
    """Where an object stands in its life as CSI sees it; Cinder's own ``status`` is kept beside it."""

    CREATING = "creating"
    """The intent is recorded; the driver may or may not have created the object."""
    READY = "ready"
    DELETING = "deleting"
    """Deletion was recorded; it is finished after a crash."""
    DEFERRED = "deferred"
    """Deleted for the CO; the driver's delete waits for the last dependant to go."""
    ORPHAN = "leftover"
    """What an interrupted attempt may have left, replaced by a later generation; see the controller's recovery."""


@dataclass(kw_only=True, slots=True)
class Intent:
    """What a CSI request asked for, kept with the object created for it.

    Absent (``None``) on objects that the library created without CSI.
    """

    name: str
    """The name the CO gave (CreateVolumeRequest.name and its siblings)."""
    generation: int = 1
    """Counts the attempts of one name; the object's id is UUIDv5(instance namespace, kind, name, generation)."""
    fingerprint: str = ""
    """Of the request, in records of earlier versions; neither written nor read any more."""
    phase: Phase = Phase.CREATING
    """Where it stands in its life as CSI sees it."""
    request: JSON = field(default_factory=dict)
    """The normalised request without secrets: parameters, capabilities, source, capacity range..."""
    context: dict[str, str] = field(default_factory=dict)
    """The volume_context of the first answer."""
    topology: list[dict[str, str]] = field(default_factory=list)
    """accessible_topology of the first answer."""
    ended_at: datetime | None = None
    """When the attempt was found to have ended without success; starts the undo window of an orphan."""
    condition: str = ""
    """For humans: why an orphan is kept, or why a deletion waits."""


@dataclass(kw_only=True, slots=True)
class Record:
    """What all records share. ``revision`` 0 means never stored; each successful write adds one."""

    KIND: ClassVar[str]
    KEYS: ClassVar[tuple[str, ...]] = ()
    SECRET: ClassVar[tuple[str, ...]] = ()

    id: str
    """Cinder's id of the object (of a key-value, its key; of a node, its CSI node_id)."""
    revision: int = 0
    """Counts the writes of the record."""
    created_at: datetime | None = None
    """When the record was first stored."""
    updated_at: datetime | None = None
    """When the record was last written."""


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
    """Size in GiB."""
    status: str = "creating"
    """Cinder's word for the volume's state: creating, available, in-use, error..."""
    attach_status: str = "detached"
    """Cinder's word for whether it is exported to a host: detached or attached."""
    display_name: str | None = None
    """Name for humans."""
    display_description: str | None = None
    """Description for humans."""
    user_id: str | None = None
    """OpenStack user that the volume counts as, where the storage wants one."""
    project_id: str | None = None
    """OpenStack project that the volume counts as, where the storage wants one."""
    name_id: str | None = None
    """Id by which the storage knows the volume, where a migration made it differ from its own."""
    ec2_id: str | None = None
    """Id in the EC2 interface of OpenStack; kept, not used."""
    use_quota: bool = True
    """Whether OpenStack would count it against a quota; temporary volumes are not."""
    snapshot_id: str | None = None
    """Id of the snapshot it was created from."""
    source_volid: str | None = None
    """Id of the volume it was cloned from."""
    group_id: str | None = None
    """Id of the group it belongs to."""
    consistencygroup_id: str | None = None
    """Id of its group in Cinder's older way; kept, not used."""
    cluster_name: str | None = None
    """Cinder's cluster of services; kept, not used."""
    availability_zone: str | None = None
    """Availability zone, where the storage has them."""
    migration_status: str | None = None
    """How far a migration between backends is."""
    previous_status: str | None = None
    """Cinder status before a migration or a retype began."""
    replication_status: str | None = None
    """Driver's word for the volume's replication."""
    replication_extended_status: str | None = None
    """More of the driver's words about replication."""
    replication_driver_data: str | None = None
    """What the driver remembers for replication."""
    provider_id: str | None = None
    """The storage's own id of the volume."""
    provider_location: str | None = None
    """Where the storage has it, as the driver wrote it."""
    provider_auth: str | None = None
    """Credentials of the export, sealed."""
    provider_geometry: str | None = None
    """Block sizes, as the driver wrote them."""
    encryption_key_id: str | None = None
    """Key manager's id of the encryption key, where Cinder encrypts."""
    bootable: bool = False
    """Whether a machine can start from it; kept, not used."""
    multiattach: bool = False
    """Whether several hosts may have it at the same time."""
    service_uuid: str | None = None
    """Cinder service that serves it; kept, not used."""
    shared_targets: bool | None = None
    """Whether its export shares a target with others, which hosts must not log out of then."""
    scheduled_at: datetime | None = None
    """When a backend and a pool were chosen for it."""
    launched_at: datetime | None = None
    """When the driver had created it."""
    terminated_at: datetime | None = None
    """When its deletion began."""
    volume_type_id: str | None = None
    """Id of Cinder's volume type."""
    extra_specs: dict[str, str] = field(default_factory=dict)
    """Extra specs of its volume type, which drivers read."""
    qos_specs: dict[str, str] = field(default_factory=dict)
    """QoS specs of its volume type, which drivers and hosts enforce."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Key-values for humans and drivers; whose it is, among them."""
    admin_metadata: dict[str, str] = field(default_factory=dict)
    """Key-values that drivers keep about attachments."""
    glance_metadata: dict[str, str] = field(default_factory=dict)
    """Properties of the image it was created from."""
    intent: Intent | None = None
    """What the CSI request asked for; absent on volumes of programs that use the library."""

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
    """Id of the volume it shows."""
    backend: str = ""
    """Name of the backend (cinderlib kept it in the versioned object's ``progress``)."""
    volume_size: int = 1
    """Size of that volume in GiB when it was taken."""
    status: str = "creating"
    """Cinder's word for the snapshot's state: creating, available, deleting, error..."""
    display_name: str | None = None
    """Name for humans."""
    display_description: str | None = None
    """Description for humans."""
    user_id: str | None = None
    """OpenStack user that it counts as, where the storage wants one."""
    project_id: str | None = None
    """OpenStack project that it counts as, where the storage wants one."""
    use_quota: bool = True
    """Whether OpenStack would count it against a quota; temporary snapshots are not."""
    cgsnapshot_id: str | None = None
    """Id of its group snapshot in Cinder's older way; kept, not used."""
    group_snapshot_id: str | None = None
    """Id of the group snapshot it is part of."""
    encryption_key_id: str | None = None
    """Key manager's id of the encryption key, where Cinder encrypts."""
    volume_type_id: str | None = None
    """Id of Cinder's volume type."""
    provider_id: str | None = None
    """The storage's own id of the snapshot."""
    provider_location: str | None = None
    """Where the storage has it, as the driver wrote it."""
    provider_auth: str | None = None
    """Credentials, sealed."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Key-values for humans and drivers; whose it is, among them."""
    intent: Intent | None = None
    """What the CSI request asked for; absent on snapshots of programs that use the library."""

    @property
    def csi_name(self) -> str | None:
        return self.intent.name if self.intent else None


@dataclass(kw_only=True, slots=True)
class ConnectionRecord(Record):
    KIND: ClassVar[str] = "connection"
    KEYS: ClassVar[tuple[str, ...]] = ("volume_id", "node_id")
    SECRET: ClassVar[tuple[str, ...]] = ("connection_info",)

    volume_id: str
    """Id of the volume that is exported."""
    node_id: str | None = None
    """CSI node the volume is published to; None for connections that the library created."""
    instance_uuid: str | None = None
    """Virtual machine that uses it; kept, not used."""
    attached_host: str | None = None
    """Host that it was exported to, where no CSI node is."""
    mountpoint: str | None = None
    """Device's path on that host, as programs recorded it."""
    attach_time: datetime | None = None
    """When the export was created."""
    detach_time: datetime | None = None
    """When the export was removed."""
    attach_status: str = "attaching"
    """attaching: intent only, the driver may have been called; attached; error_detaching: a disconnect was begun and
    not finished (the word that Cinder's field allows)."""
    attach_mode: str | None = None
    """rw or ro."""
    connection_info: JSON | str | None = None
    """cinderlib's: {'conn': driver's answer, 'connector': properties, 'device': ...}; a str once sealed."""
    connector: JSON | None = None
    """Who it was exported to: os-brick's connector properties, and how CSI published it."""

    @property
    def public_key(self) -> str | None:
        """Key of the node that its publish_context was sealed to, in base64; None if that is not recorded."""
        return (self.connector or {}).get(PUBLIC_KEY)

    @property
    def is_renewed(self) -> bool:
        """Whether its publish_context tells of an export that is no more."""
        return RENEWED in (self.connector or {})

    @property
    def protocol(self) -> str:
        """Cinder's driver_volume_type in lower case; empty where it is not known, or sealed."""
        information = self.connection_info
        connected = (information.get("conn") or {}) if isinstance(information, dict) else {}
        return str(connected.get("driver_volume_type", "")).lower()


@dataclass(kw_only=True, slots=True)
class KeyValueRecord(Record):
    """``id`` is the key. Keys that begin with ``cinderbox.`` are reserved."""

    KIND: ClassVar[str] = "key_value"
    value: str | None = None
    """The value."""


@dataclass(kw_only=True, slots=True)
class GroupRecord(Record):
    KIND: ClassVar[str] = "group"
    KEYS: ClassVar[tuple[str, ...]] = ("name",)

    host: str = ""
    """host@backend#pool, as Cinder writes it."""
    name: str | None = None
    """Name for humans."""
    description: str | None = None
    """Description for humans."""
    user_id: str | None = None
    """OpenStack user that it counts as, where the storage wants one."""
    project_id: str | None = None
    """OpenStack project that it counts as, where the storage wants one."""
    cluster_name: str | None = None
    """Cinder's cluster of services; kept, not used."""
    availability_zone: str | None = None
    """Availability zone, where the storage has them."""
    group_type_id: str | None = None
    """Id of Cinder's group type."""
    group_specs: dict[str, str] = field(default_factory=dict)
    """Specs of its group type, which drivers read."""
    volume_type_ids: list[str] = field(default_factory=list)
    """Volume types that its volumes may have."""
    status: str = "creating"
    """Cinder's word for the group's state."""
    group_snapshot_id: str | None = None
    """Id of the group snapshot it was created from."""
    source_group_id: str | None = None
    """Id of the group it was cloned from."""
    replication_status: str | None = None
    """Driver's word for the group's replication."""

    @property
    def backend(self) -> str:
        return self.host.split("#")[0].split("@")[-1]


@dataclass(kw_only=True, slots=True)
class GroupSnapshotRecord(Record):
    KIND: ClassVar[str] = "group_snapshot"
    KEYS: ClassVar[tuple[str, ...]] = ("name", "group_id", "csi_name")

    group_id: str
    """Id of the group it shows."""
    backend: str = ""
    """Name of the backend."""
    name: str | None = None
    """Name for humans."""
    description: str | None = None
    """Description for humans."""
    user_id: str | None = None
    """OpenStack user that it counts as, where the storage wants one."""
    project_id: str | None = None
    """OpenStack project that it counts as, where the storage wants one."""
    group_type_id: str | None = None
    """Id of Cinder's group type."""
    status: str = "creating"
    """Cinder's word for the group snapshot's state."""
    intent: Intent | None = None
    """What the CSI request asked for; absent on those of programs that use the library."""

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
    """Topology segments of the node, as its kubelet is told."""
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
