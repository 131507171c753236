"""DeleteVolume: at once for the CO; in the backend when nothing needs the volume any more."""

from csi_plugin.controller import lookups, storage_objects
from csi_plugin.controller.context import Call, Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.recovery import orphans
from csi_plugin.controller.rpc import group_snapshots
from csi_plugin.persistence.records import Phase, VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import aborted, failed_precondition


def delete_volume(core: Core, request: csi_pb2.DeleteVolumeRequest, call: Call) -> csi_pb2.DeleteVolumeResponse:
    """CSI spec, "DeleteVolume". An unknown id is a volume that is gone."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    volume_id = request.volume_id
    core.inflight.run(
        f"volume/{volume_id}", "delete", lambda: _delete(core, volume_id), wait_seconds=call.time_remaining()
    )
    return csi_pb2.DeleteVolumeResponse()


def _delete(core: Core, volume_id: str) -> None:
    record = core.store.get(VolumeRecord, volume_id) if lookups.possible_id(volume_id) else None
    if record is None:
        return
    match record.intent.phase if record.intent else Phase.READY:
        case Phase.DEFERRED | Phase.LEFTOVER:
            return  # deleted for the CO already; recovery does the rest
        case Phase.CREATING:
            _set_aside(core, record)
            return
    with core.sources.changing(f"volume/{volume_id}"):
        _check_unused(core, record)
        with driver_errors(f"deleting volume {volume_id}"):
            record = group_snapshots.leave_group(core, record)
            storage_objects.volume(core, record).delete(deferred=True)
    # It may wait for a dependant; the one that goes last takes it along, unless something is in its way then.
    core.pending.add(VolumeRecord, volume_id, after_seconds=core.configuration.recovery_interval_seconds)


def _set_aside(core: Core, record: VolumeRecord) -> None:
    """A volume whose creation a crash cut off, or an old backup's record of it: the CO wants it gone, but what it is
    on the array is not known, so it is handled as any leftover."""
    with core.inflight.hold(f"volume-name/{lookups.intent_of(record).name}"):
        current = core.store.get(VolumeRecord, record.id)
        if current is not None and lookups.intent_of(current).phase is not Phase.CREATING:
            raise aborted(f"volume {record.id} has just been created")
        orphans.set_aside_interrupted(core, current or record, why=orphans.UNFINISHED_DELETED)


def _check_unused(core: Core, record: VolumeRecord) -> None:
    if nodes := sorted(connection.node_id or "a host" for connection in lookups.connections_of(core.store, record.id)):
        raise failed_precondition(f"volume_id: volume {record.id} is published to {', '.join(nodes)}")
