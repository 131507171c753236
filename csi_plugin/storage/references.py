"""Whether a record fits those that it refers to: a driver of the wrong backend finds nothing, and takes it for deleted.

Records are written by one process and agree; a backup that was restored in part, or a hand's edit, leaves others.
"""

from csi_plugin.persistence.records import GroupRecord, GroupSnapshotRecord, SnapshotRecord, VolumeRecord
from csi_plugin.storage.cinder import exception
from csi_plugin.storage.library_state import STATE

_ADVICE = "nothing is done before the record that is wrong is corrected"


def check_snapshot(record: SnapshotRecord) -> None:
    """The snapshot's volume is there, and on the same backend. Raises InvalidSnapshot."""
    volume = STATE.store.get(VolumeRecord, record.volume_id)
    if volume is None:
        raise exception.InvalidSnapshot(
            reason=f"snapshot {record.id} is of volume {record.volume_id}, of which there is no record; {_ADVICE}"
        )
    if volume.backend != record.backend:
        raise exception.InvalidSnapshot(
            reason=f"the record of snapshot {record.id} names backend {record.backend!r}, and that of its volume "
            f"{volume.id} backend {volume.backend!r}; {_ADVICE}"
        )


def check_group_snapshot(record: GroupSnapshotRecord) -> None:
    """Its group and its snapshots are on its backend, and their volumes, too. Raises InvalidGroupSnapshot, and
    InvalidSnapshot."""
    group = STATE.store.get(GroupRecord, record.group_id)
    if group is None:
        raise exception.InvalidGroupSnapshot(
            reason=f"group snapshot {record.id} is of group {record.group_id}, of which there is no record; {_ADVICE}"
        )
    members = STATE.store.find(SnapshotRecord, group_snapshot_id=record.id)
    parts = {f"group {group.id}": group.backend} | {f"snapshot {member.id}": member.backend for member in members}
    for part, backend in parts.items():
        if backend != record.backend:
            raise exception.InvalidGroupSnapshot(
                reason=f"the record of group snapshot {record.id} names backend {record.backend!r}, and that of its "
                f"{part} backend {backend!r}; {_ADVICE}"
            )
    for member in members:
        check_snapshot(member)


def check_group(record: GroupRecord) -> None:
    """The group's volumes are on its backend. Raises InvalidGroup."""
    for volume in STATE.store.find(VolumeRecord, group_id=record.id):
        if volume.backend != record.backend:
            raise exception.InvalidGroup(
                reason=f"the record of volume {volume.id} names backend {volume.backend!r}, and that of its group "
                f"{record.id} backend {record.backend!r}; {_ADVICE}"
            )
