"""Records of every kind with every field set."""

import uuid
from datetime import UTC, datetime

from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Intent,
    KeyValueRecord,
    NodeRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def new_id() -> str:
    return str(uuid.uuid4())


def an_intent(name: str) -> Intent:
    return Intent(
        name=name,
        generation=2,
        fingerprint="5f" * 32,
        phase=Phase.DEFERRED,
        request={"parameters": {"type": "fast"}, "capacity": [1, None], "nested": {"a": {"b": True}}},
        context={"cinderbox.io/backend": "lvm"},
        topology=[{"zone": "a"}, {"zone": "b"}],
        ended_at=MOMENT,
        condition="waits for snapshot é",
    )


def samples() -> list[Record]:
    """A record of each kind with every field set, in an order in which each comes after those it refers to."""
    group = GroupRecord(
        id=new_id(),
        host="host@lvm#pool",
        name="group",
        description="all of it",
        user_id="user",
        project_id="project",
        availability_zone="zone",
        group_type_id=new_id(),
        group_specs={"consistent_group_snapshot_enabled": "<is> True"},
        volume_type_ids=[new_id()],
        status="available",
        source_group_id=new_id(),
        replication_status="disabled",
    )
    volume_id = new_id()
    volume = VolumeRecord(
        id=volume_id,
        host="host@lvm#pool",
        size=7,
        status="available",
        attach_status="attached",
        display_name="Größe 7",
        display_description="a volume",
        user_id="user",
        project_id="project",
        name_id=new_id(),
        use_quota=False,
        snapshot_id=new_id(),
        source_volid=new_id(),
        group_id=group.id,
        availability_zone="zone",
        previous_status="in-use",
        replication_status="enabled",
        replication_driver_data="data",
        provider_id="id on the array",
        provider_location="192.0.2.1:3260,1 iqn.2026-01.org.example:volume 1",
        provider_auth="CHAP user password",
        provider_geometry="16 16",
        encryption_key_id=new_id(),
        bootable=True,
        multiattach=True,
        shared_targets=False,
        scheduled_at=MOMENT,
        launched_at=MOMENT,
        volume_type_id=volume_id,
        extra_specs={"compression": "<is> True"},
        qos_specs={"maxIOPS": "500"},
        metadata={"owner": "app", "empty": ""},
        admin_metadata={"readonly": "False"},
        intent=an_intent("pvc-volume"),
    )
    group_snapshot = GroupSnapshotRecord(
        id=new_id(),
        group_id=group.id,
        backend="lvm",
        name="group snapshot",
        description="of all",
        user_id="user",
        project_id="project",
        group_type_id=group.group_type_id,
        status="available",
        intent=an_intent("group-snapshot"),
    )
    snapshot = SnapshotRecord(
        id=new_id(),
        volume_id=volume.id,
        backend="lvm",
        volume_size=7,
        status="available",
        display_name="snapshot",
        display_description="a snapshot",
        user_id="user",
        project_id="project",
        use_quota=False,
        group_snapshot_id=group_snapshot.id,
        encryption_key_id=new_id(),
        volume_type_id=volume.id,
        provider_id="snapshot on the array",
        provider_location="there",
        provider_auth="CHAP user password",
        metadata={"owner": "app"},
        intent=an_intent("snapshot"),
    )
    connector = {"initiator": "iqn.2026-01.org.example:node", "ip": "192.0.2.7", "host": "node-1", "multipath": True}
    connection = ConnectionRecord(
        id=new_id(),
        volume_id=volume.id,
        node_id="node-1",
        attached_host="node-1",
        mountpoint="/dev/sda",
        attach_time=MOMENT,
        attach_status="attached",
        attach_mode="rw",
        connection_info={
            "conn": {"driver_volume_type": "iscsi", "data": {"target_lun": 1, "auth_password": "password"}},
            "connector": connector,
        },
        connector=connector,
    )
    key_value = KeyValueRecord(id="a key/with Ünicode", value="value " * 100)
    node = NodeRecord(
        id="node-1.example",
        connector=connector,
        public_key="cHVibGlj",
        topology={"topology.example/zone": "a"},
        max_volumes=24,
    )
    return [group, volume, group_snapshot, snapshot, connection, key_value, node]
