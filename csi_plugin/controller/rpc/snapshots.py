"""CreateSnapshot and DeleteSnapshot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from csi_plugin.controller.attempts import resource_of
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.error_table import driver_errors, exhaustion_is_final
from csi_plugin.controller.placement import full_pool_errors
from csi_plugin.controller.requests import topology
from csi_plugin.controller.requests.labels import SNAPSHOT, make_labels
from csi_plugin.controller.requests.parameters import check_snapshot_parameters, without_sidecar_keys
from csi_plugin.persistence.records import JSON, GroupSnapshotRecord, Intent, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import invalid_argument, not_found, resource_exhausted, unimplemented
from csi_plugin.storage import references
from csi_plugin.storage.cinder import scheduler


def create_snapshot(
    context: ControllerContext, request: csi_pb2.CreateSnapshotRequest, call: Call
) -> csi_pb2.CreateSnapshotResponse:
    """CSI spec, "CreateSnapshot". Cinder's drivers answer when the snapshot is usable, so it is always ready."""
    _validate(context, request)
    creation = SnapshotCreation(
        name=request.name,
        volume_id=request.source_volume_id,
        requirements=request.accessibility_requirements,
        given_parameters=request.parameters,
        normalized={
            "source_volume_id": request.source_volume_id,
            "parameters": without_sidecar_keys(request.parameters),
        },
    )
    record = lifecycle.create(context, creation, call)
    return csi_pb2.CreateSnapshotResponse(snapshot=responses.snapshot(context, record))


def delete_snapshot(
    context: ControllerContext, request: csi_pb2.DeleteSnapshotRequest, call: Call
) -> csi_pb2.DeleteSnapshotResponse:
    """CSI spec, "DeleteSnapshot". At once for the CO; in the backend when no clone needs it any more."""
    request_rules.check_sizes(request)
    request_rules.require(request, "snapshot_id")
    lifecycle.delete(context, SnapshotDeletion(request.snapshot_id), call)
    return csi_pb2.DeleteSnapshotResponse()


@dataclass(frozen=True, kw_only=True)
class SnapshotCreation(lifecycle.Creation[SnapshotRecord]):
    kind = SnapshotRecord
    words = "snapshot"

    name: str
    volume_id: str
    requirements: csi_pb2.TopologyRequirement
    given_parameters: Mapping[str, str]
    normalized: JSON

    def sources(self) -> Sequence[str]:
        return [resource_of(VolumeRecord, self.volume_id)]

    def differences(self, context: ControllerContext, record: SnapshotRecord) -> list[str]:
        differing = []
        if record.volume_id != self.volume_id:
            differing.append(f"source_volume_id (it is of volume {record.volume_id})")
        if not self._is_accessible(context, record.backend):
            differing.append("accessibility_requirements")
        return differing

    def create(self, context: ControllerContext, object_id: str, intent: Intent) -> SnapshotRecord:
        volume = self._source(context)
        titles = make_labels(self.given_parameters, context.configuration, csi_name=self.name, owner=SNAPSHOT)
        backend = storage_objects.configured_backend(context, volume.backend, field="source_volume_id")
        with (
            exhaustion_is_final(),
            full_pool_errors(backend, pool=volume.pool, gib=volume.size, extra_specs=volume.extra_specs),
            driver_errors(f"creating snapshot {object_id} ({self.name})"),
        ):
            scheduler.check_takes_snapshots(backend, pool_name=volume.pool)
            snapshot = storage_objects.volume(context, volume).create_snapshot(
                titles.name,
                titles.description,
                id=object_id,
                metadata=titles.metadata
                | filesystem_records.snapshot_metadata(context.store, volume)
                | luks_headers.marks(luks_headers.header_gib(volume))
                | requested_sizes.snapshot_marks(volume),
                intent=intent,
            )
        record: SnapshotRecord = snapshot.record
        return record

    def _source(self, context: ControllerContext) -> VolumeRecord:
        """The volume. Raises NOT_FOUND, and RESOURCE_EXHAUSTED when its snapshots are not usable where required."""
        volume = lookups.find_visible(context.store, VolumeRecord, self.volume_id)
        if volume is None:
            raise not_found(f"source_volume_id: no volume has the id {self.volume_id!r}")
        if not self._is_accessible(context, volume.backend):
            raise resource_exhausted(
                f"accessibility_requirements: a snapshot is usable where its volume is, and backend {volume.backend} "
                "is not accessible from there"
            )
        return volume

    def _is_accessible(self, context: ControllerContext, backend_name: str) -> bool:
        return topology.is_accessible(context.backends.topologies().get(backend_name, []), self.requirements)


@dataclass(frozen=True)
class SnapshotDeletion(lifecycle.Deletion[SnapshotRecord]):
    kind = SnapshotRecord
    words = "snapshot"

    object_id: str

    def sources(self, context: ControllerContext, record: SnapshotRecord) -> Sequence[str]:
        """All snapshots of its group snapshot, if it is of one: they may go with the last of them."""
        group_snapshot_id = record.group_snapshot_id
        members = context.store.find(SnapshotRecord, group_snapshot_id=group_snapshot_id) if group_snapshot_id else []
        return [resource_of(SnapshotRecord, snapshot.id) for snapshot in members or [record]]

    def delete(self, context: ControllerContext, record: SnapshotRecord) -> None:
        group_snapshot_id = record.group_snapshot_id
        group_snapshot = context.store.get(GroupSnapshotRecord, group_snapshot_id) if group_snapshot_id else None
        if group_snapshot is not None:
            self._delete_member(context, group_snapshot)
        else:
            with driver_errors(f"deleting snapshot {record.id}"):
                references.check_snapshot(record)
                storage_objects.snapshot(context, record).delete(deferred=True)
        # It may wait for a clone; the one that goes last takes it along, unless something is in its way then.
        interval = context.configuration.recovery_interval_seconds
        context.recovery_queue.add(SnapshotRecord, record.id, after_seconds=interval)

    def _delete_member(self, context: ControllerContext, record: GroupSnapshotRecord) -> None:
        with (
            context.hold(resource_of(GroupSnapshotRecord, record.id)),
            driver_errors(f"deleting snapshot {self.object_id} of group snapshot {record.id}"),
        ):
            references.check_group_snapshot(record)
            storage_objects.group_snapshot(context, record).delete_member(self.object_id)
            cinder_groups.remove_if_unused(context, record.group_id)


def _validate(context: ControllerContext, request: csi_pb2.CreateSnapshotRequest) -> None:
    if "snapshot" in context.configuration.disabled_features:
        raise unimplemented("snapshots are disabled here (disabled_features: snapshot)")
    request_rules.check_sizes(request)
    request_rules.require(request, "name", "source_volume_id")
    request_rules.check_name(request.name, field="name")
    if request.HasField("accessibility_requirements") and not any(context.backends.topologies().values()):
        raise invalid_argument("accessibility_requirements: no backend has a topology here")
    topology.check_requirements(request.accessibility_requirements)
    check_snapshot_parameters(request.parameters)
