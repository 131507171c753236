"""CreateVolumeGroupSnapshot, DeleteVolumeGroupSnapshot and GetVolumeGroupSnapshot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csi_plugin.controller import (
    cinder_groups,
    filesystem_records,
    lifecycle,
    lookups,
    luks_headers,
    requested_sizes,
    responses,
    storage_objects,
)
from csi_plugin.controller.attempts import intent_of, resource_of
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.error_table import driver_errors, exhaustion_is_final
from csi_plugin.controller.requests.labels import GROUP_SNAPSHOT, make_labels
from csi_plugin.controller.requests.parameters import check_group_snapshot_parameters, without_sidecar_keys
from csi_plugin.persistence.records import JSON, GroupSnapshotRecord, Intent, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import RpcError, failed_precondition, invalid_argument, not_found, unimplemented
from csi_plugin.storage import references


def create_volume_group_snapshot(
    context: ControllerContext, request: csi_pb2.CreateVolumeGroupSnapshotRequest, call: Call
) -> csi_pb2.CreateVolumeGroupSnapshotResponse:
    """CSI spec, "CreateVolumeGroupSnapshot"."""
    _validate(context, request)
    creation = GroupSnapshotCreation(
        name=request.name,
        volume_ids=request.source_volume_ids,
        given_parameters=request.parameters,
        normalized={
            "source_volume_ids": sorted(request.source_volume_ids),
            "parameters": without_sidecar_keys(request.parameters),
        },
    )
    record = lifecycle.create(context, creation, call)
    return csi_pb2.CreateVolumeGroupSnapshotResponse(group_snapshot=_response(context, record))


def delete_volume_group_snapshot(
    context: ControllerContext, request: csi_pb2.DeleteVolumeGroupSnapshotRequest, call: Call
) -> csi_pb2.DeleteVolumeGroupSnapshotResponse:
    """CSI spec, "DeleteVolumeGroupSnapshot". An unknown id is a group snapshot that is gone."""
    request_rules.check_sizes(request)
    request_rules.require(request, "group_snapshot_id")
    lifecycle.delete(context, GroupSnapshotDeletion(request.group_snapshot_id, request.snapshot_ids), call)
    return csi_pb2.DeleteVolumeGroupSnapshotResponse()


def get_volume_group_snapshot(
    context: ControllerContext, request: csi_pb2.GetVolumeGroupSnapshotRequest
) -> csi_pb2.GetVolumeGroupSnapshotResponse:
    """CSI spec, "GetVolumeGroupSnapshot"."""
    request_rules.check_sizes(request)
    request_rules.require(request, "group_snapshot_id")
    record = lookups.find_visible(context.store, GroupSnapshotRecord, request.group_snapshot_id)
    if record is None:
        raise not_found(f"group_snapshot_id: no group snapshot has the id {request.group_snapshot_id!r}")
    _check_members(context, record, request.snapshot_ids)
    return csi_pb2.GetVolumeGroupSnapshotResponse(group_snapshot=_response(context, record))


@dataclass(frozen=True, kw_only=True)
class GroupSnapshotCreation(lifecycle.Creation[GroupSnapshotRecord]):
    kind = GroupSnapshotRecord
    words = "group snapshot"

    name: str
    volume_ids: Sequence[str]
    given_parameters: Mapping[str, str]
    normalized: JSON

    def sources(self) -> Sequence[str]:
        return [resource_of(VolumeRecord, volume_id) for volume_id in self.volume_ids]

    def exclusive(self) -> Sequence[str]:
        return self.sources()  # they may change their Cinder group

    def differences(self, context: ControllerContext, record: GroupSnapshotRecord) -> list[str]:
        stored = intent_of(record).request
        return [name for name, value in self.normalized.items() if stored.get(name) != value]

    def prepare_retry(self, context: ControllerContext, error: RpcError) -> bool:
        is_recreated = cinder_groups.recreate_lost_group(context, error, self.volume_ids)
        return is_recreated or super().prepare_retry(context, error)

    def create(self, context: ControllerContext, object_id: str, intent: Intent) -> GroupSnapshotRecord:
        volumes = self._sources(context)
        titles = make_labels(self.given_parameters, context.configuration, csi_name=self.name, owner=GROUP_SNAPSHOT)
        members = {
            volume.id: {
                "id": context.identifiers.of_member(object_id, volume.id),
                "name": titles.name,
                "description": titles.description,
                "metadata": titles.metadata
                | filesystem_records.snapshot_metadata(context.store, volume)
                | luks_headers.marks(luks_headers.header_gib(volume))
                | requested_sizes.snapshot_marks(volume),
            }
            for volume in volumes
        }
        with driver_errors("putting the volumes into one group"):
            group = cinder_groups.group_of(context, volumes)
        with exhaustion_is_final(), driver_errors(f"creating group snapshot {object_id} ({self.name})"):
            snapshot = group.create_snapshot(name=titles.name, id=object_id, intent=intent, snapshots=members)
        record: GroupSnapshotRecord = snapshot.record
        return record

    def _sources(self, context: ControllerContext) -> list[VolumeRecord]:
        """The volumes. Raises NOT_FOUND, and FAILED_PRECONDITION when they cannot be snapshotted together."""
        volumes = []
        for volume_id in self.volume_ids:
            volume = lookups.find_visible(context.store, VolumeRecord, volume_id)
            if volume is None:
                raise not_found(f"source_volume_ids: no volume has the id {volume_id!r}")
            volumes.append(volume)
        backends = sorted({volume.backend for volume in volumes})
        if len(backends) > 1:
            raise failed_precondition(
                f"source_volume_ids: the volumes are on backends {', '.join(backends)}; a group snapshot is of one"
            )
        backend = storage_objects.configured_backend(context, backends[0], field="source_volume_ids")
        if not backend.supports("groups"):
            raise failed_precondition(
                f"source_volume_ids: the driver of backend {backends[0]} takes no consistent snapshots of several "
                "volumes"
            )
        return volumes


@dataclass(frozen=True)
class GroupSnapshotDeletion(lifecycle.Deletion[GroupSnapshotRecord]):
    kind = GroupSnapshotRecord
    words = "group snapshot"

    object_id: str
    snapshot_ids: Sequence[str]
    """Of all its members, or empty."""

    def fingerprint(self) -> Any:
        return sorted(self.snapshot_ids)

    def sources(self, context: ControllerContext, record: GroupSnapshotRecord) -> Sequence[str]:
        return [resource_of(SnapshotRecord, member.id) for member in lookups.members_of(context.store, record)]

    def delete(self, context: ControllerContext, record: GroupSnapshotRecord) -> None:
        _check_members(context, record, self.snapshot_ids)
        with driver_errors(f"deleting group snapshot {record.id}"):
            references.check_group_snapshot(record)
            storage_objects.group_snapshot(context, record).delete(deferred=True)
            cinder_groups.remove_if_unused(context, record.group_id)
        interval = context.configuration.recovery_interval_seconds
        context.recovery_queue.add(GroupSnapshotRecord, record.id, after_seconds=interval)


def _validate(context: ControllerContext, request: csi_pb2.CreateVolumeGroupSnapshotRequest) -> None:
    if "snapshot" in context.configuration.disabled_features:
        raise unimplemented("snapshots are disabled here (disabled_features: snapshot)")
    request_rules.check_sizes(request)
    request_rules.require(request, "name", "source_volume_ids")
    request_rules.check_name(request.name, field="name")
    if "" in request.source_volume_ids:
        raise invalid_argument("source_volume_ids must not hold empty ids")
    if len(set(request.source_volume_ids)) != len(request.source_volume_ids):
        raise invalid_argument("source_volume_ids must name every volume once")
    check_group_snapshot_parameters(request.parameters)


def _members(context: ControllerContext, record: GroupSnapshotRecord) -> list[SnapshotRecord]:
    """The snapshots of a group snapshot that the CO has not deleted."""
    return [member for member in lookups.members_of(context.store, record) if lookups.is_visible(member)]


def _check_members(context: ControllerContext, record: GroupSnapshotRecord, snapshot_ids: Sequence[str]) -> None:
    """INVALID_ARGUMENT unless the ids are those of the group's snapshots; older COs leave them out, and COs may name
    those that they have deleted alone."""
    members = {member.id for member in _members(context, record)}
    volume_ids = intent_of(record).request.get("source_volume_ids", ()) if record.intent else ()
    deleted = {context.identifiers.of_member(record.id, volume_id) for volume_id in volume_ids} - members
    if snapshot_ids and set(snapshot_ids) - deleted != members:
        raise invalid_argument(f"snapshot_ids: the snapshots of group snapshot {record.id} are {sorted(members)}")


def _response(context: ControllerContext, record: GroupSnapshotRecord) -> csi_pb2.VolumeGroupSnapshot:
    response = csi_pb2.VolumeGroupSnapshot(
        group_snapshot_id=record.id,
        snapshots=[responses.snapshot(context, member) for member in _members(context, record)],
        creation_time=responses.timestamp(record.created_at),
    )
    for snapshot in response.snapshots:
        snapshot.group_snapshot_id = record.id
    response.ready_to_use = all(snapshot.ready_to_use for snapshot in response.snapshots)
    return response
