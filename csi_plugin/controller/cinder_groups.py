"""The Cinder groups that group snapshots are taken through.

A CSI group snapshot names volumes, a Cinder group snapshot takes all volumes of a Cinder group. So the volumes are put
into one Cinder group, which is theirs as long as no other set of volumes is asked for.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from csi_plugin.controller import storage_objects
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.error_table import causes, driver_errors
from csi_plugin.persistence.records import GroupRecord, GroupSnapshotRecord, VolumeRecord
from csi_plugin.protocol.errors import RpcError
from csi_plugin.storage import references
from csi_plugin.storage.cinder.missing_objects import GROUP_GONE, group_is_gone

if TYPE_CHECKING:
    from csi_plugin.storage.group import Group

GROUP_SPECS = {"consistent_group_snapshot_enabled": "<is> True"}
"""What Cinder's group types say for write-order consistency between the volumes."""


def group_of(context: ControllerContext, volumes: Sequence[VolumeRecord]) -> "Group":
    """A Cinder group that holds just these volumes, of one backend: one that has some of them, or a new one.

    Raises ABORTED while another operation runs on a group of theirs.
    """
    group_ids = sorted({volume.group_id for volume in volumes if volume.group_id})
    with context.wait_and_hold(*(_resource_of(group_id) for group_id in group_ids)):
        found = [context.store.get(GroupRecord, group_id) for group_id in group_ids]
        groups = [record for record in found if record is not None]
        if not groups:
            backend = storage_objects.backend(context, volumes[0].backend)
            return backend.create_group(
                name=f"{_name_prefix(context)}{volumes[0].id}",
                volumes=[storage_objects.volume(context, volume) for volume in volumes],
                group_specs=GROUP_SPECS,
            )
        for other in groups[1:]:
            _move_out(context, other, [volume for volume in volumes if volume.group_id == other.id])
        return _set_members(context, groups[0], volumes)


def recreate_lost_group(context: ControllerContext, error: RpcError, volume_ids: Sequence[str]) -> bool:
    """Recreate the Cinder group of some volumes in the storage, where a driver's error says that this very one is not
    there; whether it was so."""
    if not any(isinstance(cause, GROUP_GONE) for cause in causes(error)):
        return False  # without reading any of the volumes, of which there may be very many
    volumes = (context.store.get(VolumeRecord, volume_id) for volume_id in volume_ids)
    for group_id in sorted({volume.group_id for volume in volumes if volume is not None and volume.group_id}):
        if not any(group_is_gone(cause, group_id) for cause in causes(error)):
            continue
        with context.wait_and_hold(_resource_of(group_id)), driver_errors(f"recreating group {group_id}"):
            record = context.store.get(GroupRecord, group_id)
            if record is not None:
                _object(context, record).recreate()
        return record is not None
    return False


def leave_group(context: ControllerContext, record: VolumeRecord) -> VolumeRecord:
    """Take a volume that is to be deleted out of its Cinder group; an empty group goes too. Returns its new record."""
    if not record.group_id:
        return record
    with context.wait_and_hold(_resource_of(record.group_id)):
        group_record = context.store.get(GroupRecord, record.group_id)
        if group_record is None:
            return record
        group = _object(context, group_record)
        group.update(remove=[storage_objects.volume(context, record)])
    remove_if_unused(context, record.group_id)
    return context.store.get(VolumeRecord, record.id) or record


def remove_if_unused(context: ControllerContext, group_id: str) -> None:
    """Remove a Cinder group that has neither volumes nor snapshots any more."""
    with context.wait_and_hold(_resource_of(group_id)):
        record = context.store.get(GroupRecord, group_id)
        if record is not None and not _is_used(context, record):
            _object(context, record).delete()


def may_be_left_over(context: ControllerContext, record: GroupRecord, *, since: datetime) -> bool:
    """Whether a Cinder group may be what a crash left: one of ours, created before ``since``."""
    is_ours = (record.name or "").startswith(_name_prefix(context))
    return is_ours and record.created_at is not None and record.created_at < since


def _object(context: ControllerContext, record: GroupRecord) -> "Group":
    """The Cinder group, unless its volumes are elsewhere. Raises InvalidGroup, also where its backend is not up."""
    references.check_group(record)
    return storage_objects.group(context, record)


def _name_prefix(context: ControllerContext) -> str:
    return f"{context.configuration.driver_name} "


def _resource_of(group_id: str) -> str:
    return f"group/{group_id}"


def _is_used(context: ControllerContext, record: GroupRecord) -> bool:
    store = context.store
    return bool(
        store.find(GroupSnapshotRecord, group_id=record.id, limit=1)
        or store.find(VolumeRecord, group_id=record.id, limit=1)
    )


def _move_out(context: ControllerContext, group_record: GroupRecord, volumes: Sequence[VolumeRecord]) -> None:
    group = _object(context, group_record)
    group.update(remove=[storage_objects.volume(context, volume) for volume in volumes])
    if not _is_used(context, group_record):
        group.delete()


def _set_members(context: ControllerContext, group_record: GroupRecord, volumes: Sequence[VolumeRecord]) -> "Group":
    present = {member.id: member for member in context.store.find(VolumeRecord, group_id=group_record.id)}
    wanted = {volume.id for volume in volumes}
    added = [volume.id for volume in volumes if volume.id not in present]
    removed = [member for member in present.values() if member.id not in wanted]
    group = _object(context, group_record)
    if added or removed:
        fresh = [record for record in (context.store.get(VolumeRecord, volume_id) for volume_id in added) if record]
        group.update(
            add=[storage_objects.volume(context, volume) for volume in fresh],
            remove=[storage_objects.volume(context, volume) for volume in removed],
        )
    return group
