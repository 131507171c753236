"""CreateSnapshot and DeleteSnapshot."""

from csi_plugin.controller import lookups, placement, responses, storage_objects
from csi_plugin.controller.context import Call, Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.fingerprint import fingerprint
from csi_plugin.controller.labels import SNAPSHOT, labels
from csi_plugin.controller.parameters import lasting, snapshot_parameters
from csi_plugin.controller.recovery import orphans
from csi_plugin.persistence.records import JSON, Intent, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import (
    aborted,
    already_exists,
    invalid_argument,
    not_found,
    resource_exhausted,
    unimplemented,
)


def create_snapshot(core: Core, request: csi_pb2.CreateSnapshotRequest, call: Call) -> csi_pb2.CreateSnapshotResponse:
    """CSI spec, "CreateSnapshot". Cinder's drivers answer when the snapshot is usable, so it is always ready."""
    _validate(core, request)
    normal: JSON = {"source_volume_id": request.source_volume_id, "parameters": lasting(request.parameters)}
    record = core.inflight.run(
        f"snapshot-name/{request.name}",
        fingerprint(normal),
        lambda: _found_or_made(core, request, normal),
        wait_seconds=call.time_remaining(),
    )
    return csi_pb2.CreateSnapshotResponse(snapshot=responses.snapshot(core, record))


def delete_snapshot(core: Core, request: csi_pb2.DeleteSnapshotRequest, call: Call) -> csi_pb2.DeleteSnapshotResponse:
    """CSI spec, "DeleteSnapshot". An unknown id is a snapshot that is gone."""
    request_rules.check_sizes(request)
    request_rules.require(request, "snapshot_id")
    core.inflight.run(
        f"snapshot/{request.snapshot_id}",
        "delete",
        lambda: _delete(core, request.snapshot_id),
        wait_seconds=call.time_remaining(),
    )
    return csi_pb2.DeleteSnapshotResponse()


def _validate(core: Core, request: csi_pb2.CreateSnapshotRequest) -> None:
    if "snapshot" in core.configuration.disabled_features:
        raise unimplemented("snapshots are disabled here (disabled_features: snapshot)")
    request_rules.check_sizes(request)
    request_rules.require(request, "name", "source_volume_id")
    request_rules.check_name(request.name, field="name")
    if request.HasField("accessibility_requirements") and not any(core.backends.topologies().values()):
        raise invalid_argument("accessibility_requirements: no backend has a topology here")
    placement.check_requirements(request.accessibility_requirements)
    snapshot_parameters(request.parameters)


def _found_or_made(core: Core, request: csi_pb2.CreateSnapshotRequest, normal: JSON) -> SnapshotRecord:
    tries = core.store.find(SnapshotRecord, csi_name=request.name)
    live = lookups.live_try(tries)
    if live is not None:
        match lookups.intent_of(live).phase:
            case Phase.READY if live.volume_id != request.source_volume_id:
                raise already_exists(f"name: snapshot {request.name!r} exists, of volume {live.volume_id}")
            case Phase.READY if not _is_accessible(core, live.backend, request):
                raise already_exists(f"name: snapshot {request.name!r} exists with other accessibility_requirements")
            case Phase.READY:
                return live
            case Phase.DELETING:
                raise aborted(f"snapshot {live.id} of the name {request.name!r} is being deleted")
        orphans.set_aside_interrupted(core, live)
    return _made(core, request, normal, generation=lookups.next_generation(tries))


def _made(core: Core, request: csi_pb2.CreateSnapshotRequest, normal: JSON, *, generation: int) -> SnapshotRecord:
    snapshot_id = core.identifiers.of_try("snapshot", request.name, generation)
    with core.inflight.hold(f"snapshot/{snapshot_id}"), core.sources.reading(f"volume/{request.source_volume_id}"):
        volume = lookups.find_shown(core.store, VolumeRecord, request.source_volume_id)
        if volume is None:
            raise not_found(f"source_volume_id: no volume has the id {request.source_volume_id!r}")
        if not _is_accessible(core, volume.backend, request):
            raise resource_exhausted(
                f"accessibility_requirements: a snapshot is usable where its volume is, and backend {volume.backend} "
                "is not accessible from there"
            )
        titles = labels(
            request.parameters,
            csi_name=request.name,
            owner=SNAPSHOT,
            driver_name=core.configuration.driver_name,
            cluster_name=core.configuration.cluster_name,
        )
        intent = Intent(name=request.name, generation=generation, fingerprint=fingerprint(normal), request=dict(normal))
        try:
            backend = storage_objects.backend(core, volume.backend)
            with (
                placement.shortages(backend, pool=volume.pool, gib=volume.size, extra_specs=volume.extra_specs),
                driver_errors(f"creating snapshot {snapshot_id} ({request.name})"),
            ):
                snapshot = storage_objects.volume(core, volume).create_snapshot(
                    titles.name, titles.description, id=snapshot_id, metadata=titles.metadata, intent=intent
                )
        except BaseException as error:
            orphans.set_aside_failed(core, SnapshotRecord, snapshot_id, error)
            raise
        record: SnapshotRecord = snapshot.record
        core.handed_out.add(record.id)
        return record


def _is_accessible(core: Core, backend: str, request: csi_pb2.CreateSnapshotRequest) -> bool:
    topology = core.backends.topologies().get(backend, [])
    return placement.is_accessible(topology, request.accessibility_requirements)


def _delete(core: Core, snapshot_id: str) -> None:
    record = core.store.get(SnapshotRecord, snapshot_id) if lookups.possible_id(snapshot_id) else None
    if record is None:
        return
    if record.group_snapshot_id:
        raise invalid_argument(
            f"snapshot_id: snapshot {snapshot_id} is part of group snapshot {record.group_snapshot_id} and goes with it"
        )
    match record.intent.phase if record.intent else Phase.READY:
        case Phase.DEFERRED | Phase.LEFTOVER:
            return
        case Phase.CREATING:
            with core.inflight.hold(f"snapshot-name/{lookups.intent_of(record).name}"):
                orphans.set_aside_interrupted(core, record, why=orphans.UNFINISHED_DELETED)
            return
    with core.sources.changing(f"snapshot/{snapshot_id}"), driver_errors(f"deleting snapshot {snapshot_id}"):
        storage_objects.snapshot(core, record).delete()
