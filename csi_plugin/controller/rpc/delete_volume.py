"""DeleteVolume: at once for the CO; in the backend when nothing needs the volume any more."""

from collections.abc import Sequence
from dataclasses import dataclass

from csi_plugin.controller import cinder_groups, lifecycle, lookups, storage_objects
from csi_plugin.controller.attempts import resource_of
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import failed_precondition

_LIST_AGE = 60.0
"""Seconds after which the storage is listed anew while volumes are deleted."""


def delete_volume(
    context: ControllerContext, request: csi_pb2.DeleteVolumeRequest, call: Call
) -> csi_pb2.DeleteVolumeResponse:
    """CSI spec, "DeleteVolume". An unknown id is a volume that is gone."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    lifecycle.delete(context, VolumeDeletion(request.volume_id), call)
    return csi_pb2.DeleteVolumeResponse()


@dataclass(frozen=True)
class VolumeDeletion(lifecycle.Deletion[VolumeRecord]):
    kind = VolumeRecord
    words = "volume"

    object_id: str

    def sources(self, context: ControllerContext, record: VolumeRecord) -> Sequence[str]:
        return [resource_of(VolumeRecord, record.id)]

    def delete(self, context: ControllerContext, record: VolumeRecord) -> None:
        _check_unused(context, record)
        with driver_errors(f"deleting volume {record.id}"):
            record = cinder_groups.leave_group(context, record)
            volume = storage_objects.volume(context, record)
            # What is deleted soon after this one is compared with what the storage has now.
            volume.backend.inventory.refresh(max_age=_LIST_AGE)
            volume.delete(deferred=True)
        # It may wait for a dependant; the one that goes last takes it along, unless something is in its way then.
        interval = context.configuration.recovery_interval_seconds
        context.recovery_queue.add(VolumeRecord, record.id, after_seconds=interval)


def _check_unused(context: ControllerContext, record: VolumeRecord) -> None:
    connections = lookups.connections_of(context.store, record.id)
    if nodes := sorted(connection.node_id or "a host" for connection in connections):
        raise failed_precondition(f"volume_id: volume {record.id} is published to {', '.join(nodes)}")
