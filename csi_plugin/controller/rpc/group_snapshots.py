"""Volume group snapshots, taken through Cinder groups.

A CSI group snapshot names volumes, a Cinder group snapshot takes all volumes of a Cinder group. So the volumes are put
into one Cinder group, which is theirs as long as no other set of volumes is asked for.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from csi_plugin.controller import lookups, responses, storage_objects
from csi_plugin.controller.context import Call, Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.fingerprint import fingerprint
from csi_plugin.controller.labels import GROUP_SNAPSHOT, labels
from csi_plugin.controller.parameters import lasting, snapshot_parameters
from csi_plugin.controller.recovery import orphans
from csi_plugin.persistence.records import (
    JSON,
    GroupRecord,
    GroupSnapshotRecord,
    Intent,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import (
    aborted,
    already_exists,
    failed_precondition,
    invalid_argument,
    not_found,
    unimplemented,
)

if TYPE_CHECKING:
    from csi_plugin.storage.group import Group

GROUP_SPECS = {"consistent_group_snapshot_enabled": "<is> True"}
"""What Cinder's group types say for write-order consistency between the volumes."""


def create_volume_group_snapshot(
    core: Core, request: csi_pb2.CreateVolumeGroupSnapshotRequest, call: Call
) -> csi_pb2.CreateVolumeGroupSnapshotResponse:
    """CSI spec, "CreateVolumeGroupSnapshot"."""
    _validate(core, request)
    normal: JSON = {
        "source_volume_ids": sorted(request.source_volume_ids),
        "parameters": lasting(request.parameters),
    }
    record = core.inflight.run(
        f"group-snapshot-name/{request.name}",
        fingerprint(normal),
        lambda: _found_or_made(core, request, normal),
        wait_seconds=call.time_remaining(),
    )
    return csi_pb2.CreateVolumeGroupSnapshotResponse(group_snapshot=_answer(core, record))


def delete_volume_group_snapshot(
    core: Core, request: csi_pb2.DeleteVolumeGroupSnapshotRequest, call: Call
) -> csi_pb2.DeleteVolumeGroupSnapshotResponse:
    """CSI spec, "DeleteVolumeGroupSnapshot". An unknown id is a group snapshot that is gone."""
    request_rules.check_sizes(request)
    request_rules.require(request, "group_snapshot_id")
    core.inflight.run(
        f"group-snapshot/{request.group_snapshot_id}",
        fingerprint(sorted(request.snapshot_ids)),
        lambda: _delete(core, request.group_snapshot_id, request.snapshot_ids),
        wait_seconds=call.time_remaining(),
    )
    return csi_pb2.DeleteVolumeGroupSnapshotResponse()


def get_volume_group_snapshot(
    core: Core, request: csi_pb2.GetVolumeGroupSnapshotRequest
) -> csi_pb2.GetVolumeGroupSnapshotResponse:
    """CSI spec, "GetVolumeGroupSnapshot"."""
    request_rules.check_sizes(request)
    request_rules.require(request, "group_snapshot_id")
    record = lookups.find_shown(core.store, GroupSnapshotRecord, request.group_snapshot_id)
    if record is None:
        raise not_found(f"group_snapshot_id: no group snapshot has the id {request.group_snapshot_id!r}")
    _check_members(core, record, request.snapshot_ids)
    return csi_pb2.GetVolumeGroupSnapshotResponse(group_snapshot=_answer(core, record))


def leave_group(core: Core, record: VolumeRecord) -> VolumeRecord:
    """Take a volume that is to be deleted out of its Cinder group; an empty group goes too. Returns its new record."""
    if not record.group_id:
        return record
    group_record = core.store.get(GroupRecord, record.group_id)
    if group_record is None:
        return record
    with core.inflight.hold(f"group/{record.group_id}"):
        group = storage_objects.group(core, group_record)
        group.update(remove=[storage_objects.volume(core, record)])
    remove_if_unused(core, record.group_id)
    return core.store.get(VolumeRecord, record.id) or record


def remove_if_unused(core: Core, group_id: str) -> None:
    """Remove a Cinder group that has neither volumes nor snapshots any more."""
    record = core.store.get(GroupRecord, group_id)
    if record is None or _has_snapshots(core, record) or core.store.find(VolumeRecord, group_id=group_id, limit=1):
        return
    with core.inflight.hold(f"group/{group_id}"):
        storage_objects.group(core, record).delete()


def is_left_from_before(core: Core, record: GroupRecord, moment: datetime) -> bool:
    """Whether a Cinder group may be what a crash before ``moment`` left: one of ours, and not made since."""
    return (
        (record.name or "").startswith(_name_prefix(core))
        and record.created_at is not None
        and record.created_at < moment
    )


def _name_prefix(core: Core) -> str:
    return f"{core.configuration.driver_name} "


def _validate(core: Core, request: csi_pb2.CreateVolumeGroupSnapshotRequest) -> None:
    if "snapshot" in core.configuration.disabled_features:
        raise unimplemented("snapshots are disabled here (disabled_features: snapshot)")
    request_rules.check_sizes(request)
    request_rules.require(request, "name", "source_volume_ids")
    request_rules.check_name(request.name, field="name")
    if "" in request.source_volume_ids:
        raise invalid_argument("source_volume_ids must not hold empty ids")
    if len(set(request.source_volume_ids)) != len(request.source_volume_ids):
        raise invalid_argument("source_volume_ids must name every volume once")
    snapshot_parameters(request.parameters)


def _found_or_made(core: Core, request: csi_pb2.CreateVolumeGroupSnapshotRequest, normal: JSON) -> GroupSnapshotRecord:
    tries = core.store.find(GroupSnapshotRecord, csi_name=request.name)
    live = lookups.live_try(tries)
    if live is not None:
        intent = lookups.intent_of(live)
        match intent.phase:
            case Phase.READY if intent.request != normal:
                raise already_exists(f"name: group snapshot {request.name!r} exists with other volumes or parameters")
            case Phase.READY:
                return live
            case Phase.DELETING:
                raise aborted(f"group snapshot {live.id} of the name {request.name!r} is being deleted")
        orphans.set_aside_interrupted(core, live)
    return _made(core, request, normal, generation=lookups.next_generation(tries))


def _made(
    core: Core, request: csi_pb2.CreateVolumeGroupSnapshotRequest, normal: JSON, *, generation: int
) -> GroupSnapshotRecord:
    group_snapshot_id = core.identifiers.of_try("group-snapshot", request.name, generation)
    used = [f"volume/{volume_id}" for volume_id in request.source_volume_ids]
    with core.inflight.hold(f"group-snapshot/{group_snapshot_id}", *used), core.sources.reading(*used):
        volumes = _volumes(core, request.source_volume_ids)
        titles = labels(
            request.parameters,
            csi_name=request.name,
            owner=GROUP_SNAPSHOT,
            driver_name=core.configuration.driver_name,
            cluster_name=core.configuration.cluster_name,
        )
        members = {
            volume.id: {
                "id": core.identifiers.of_member(group_snapshot_id, volume.id),
                "name": titles.name,
                "description": titles.description,
                "metadata": titles.metadata,
            }
            for volume in volumes
        }
        intent = Intent(name=request.name, generation=generation, fingerprint=fingerprint(normal), request=normal)
        with driver_errors("putting the volumes into one group"):
            group = _group_of(core, volumes)
        try:
            with driver_errors(f"creating group snapshot {group_snapshot_id} ({request.name})"):
                made = group.create_snapshot(name=titles.name, id=group_snapshot_id, intent=intent, snapshots=members)
        except BaseException as error:
            orphans.set_aside_failed(core, GroupSnapshotRecord, group_snapshot_id, error)
            raise
        record: GroupSnapshotRecord = made.record
        core.handed_out.add(record.id)
        return record


def _volumes(core: Core, volume_ids: Sequence[str]) -> list[VolumeRecord]:
    """The source volumes. Raises NOT_FOUND, and FAILED_PRECONDITION when they cannot be snapshotted together."""
    volumes = []
    for volume_id in volume_ids:
        volume = lookups.find_shown(core.store, VolumeRecord, volume_id)
        if volume is None:
            raise not_found(f"source_volume_ids: no volume has the id {volume_id!r}")
        volumes.append(volume)
    backends = sorted({volume.backend for volume in volumes})
    if len(backends) > 1:
        raise failed_precondition(
            f"source_volume_ids: the volumes are on backends {', '.join(backends)}; a group snapshot is of one"
        )
    if not storage_objects.backend(core, backends[0]).supports("groups"):
        raise failed_precondition(
            f"source_volume_ids: the driver of backend {backends[0]} takes no consistent snapshots of several volumes"
        )
    return volumes


def _group_of(core: Core, volumes: Sequence[VolumeRecord]) -> "Group":
    """A Cinder group that holds just these volumes."""
    group_ids = sorted({volume.group_id for volume in volumes if volume.group_id})
    with core.inflight.hold(*(f"group/{group_id}" for group_id in group_ids)):
        records = [core.store.get(GroupRecord, group_id) for group_id in group_ids]
        groups = [record for record in records if record is not None]
        if not groups:
            backend = storage_objects.backend(core, volumes[0].backend)
            return backend.create_group(
                name=f"{_name_prefix(core)}{volumes[0].id}",
                volumes=[storage_objects.volume(core, volume) for volume in volumes],
                group_specs=GROUP_SPECS,
            )
        for other in groups[1:]:
            _move_out(core, other, [volume for volume in volumes if volume.group_id == other.id])
        return _with_members(core, groups[0], volumes)


def _move_out(core: Core, group_record: GroupRecord, volumes: Sequence[VolumeRecord]) -> None:
    group = storage_objects.group(core, group_record)
    group.update(remove=[storage_objects.volume(core, volume) for volume in volumes])
    members = core.store.find(VolumeRecord, group_id=group_record.id, limit=1)
    if not members and not _has_snapshots(core, group_record):
        group.delete()


def _with_members(core: Core, group_record: GroupRecord, volumes: Sequence[VolumeRecord]) -> "Group":
    present = {member.id: member for member in core.store.find(VolumeRecord, group_id=group_record.id)}
    wanted = {volume.id for volume in volumes}
    added = [volume.id for volume in volumes if volume.id not in present]
    removed = [member for member in present.values() if member.id not in wanted]
    group = storage_objects.group(core, group_record)
    if added or removed:
        fresh = [record for record in (core.store.get(VolumeRecord, volume_id) for volume_id in added) if record]
        group.update(
            add=[storage_objects.volume(core, volume) for volume in fresh],
            remove=[storage_objects.volume(core, volume) for volume in removed],
        )
    return group


def _delete(core: Core, group_snapshot_id: str, snapshot_ids: Sequence[str]) -> None:
    if not lookups.possible_id(group_snapshot_id):
        return
    record = core.store.get(GroupSnapshotRecord, group_snapshot_id)
    if record is None:
        return
    match record.intent.phase if record.intent else Phase.READY:
        case Phase.DEFERRED | Phase.LEFTOVER:
            return
        case Phase.CREATING:
            with core.inflight.hold(f"group-snapshot-name/{lookups.intent_of(record).name}"):
                orphans.set_aside_interrupted(core, record, why=orphans.UNFINISHED_DELETED)
            return
    _check_members(core, record, snapshot_ids)
    with driver_errors(f"deleting group snapshot {group_snapshot_id}"):
        storage_objects.group_snapshot(core, record).delete()
        remove_if_unused(core, record.group_id)


def _check_members(core: Core, record: GroupSnapshotRecord, snapshot_ids: Sequence[str]) -> None:
    """INVALID_ARGUMENT unless the ids are those of the group's snapshots; older COs leave them out."""
    members = {member.id for member in _members(core, record)}
    if snapshot_ids and set(snapshot_ids) != members:
        raise invalid_argument(f"snapshot_ids: the snapshots of group snapshot {record.id} are {sorted(members)}")


def _members(core: Core, record: GroupSnapshotRecord) -> list[SnapshotRecord]:
    return core.store.find(SnapshotRecord, group_snapshot_id=record.id)


def _has_snapshots(core: Core, group_record: GroupRecord) -> bool:
    return bool(core.store.find(GroupSnapshotRecord, group_id=group_record.id, limit=1))


def _answer(core: Core, record: GroupSnapshotRecord) -> csi_pb2.VolumeGroupSnapshot:
    snapshots = [responses.snapshot(core, member) for member in _members(core, record)]
    return csi_pb2.VolumeGroupSnapshot(
        group_snapshot_id=record.id,
        snapshots=snapshots,
        creation_time=responses.timestamp(record.created_at),
        ready_to_use=all(snapshot.ready_to_use for snapshot in snapshots),
    )
