"""ControllerGetVolumeHealth and ControllerListVolumeHealth: from records and the backends' last state."""

from csi_plugin.controller import lookups
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.requests import paging
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.storage.cinder import driver_stats

Entry = csi_pb2.VolumeHealth.VolumeHealthEntry

_REPLICATION_FAULTS = {"error", "failed-over", "failover-error"}


def controller_get_volume_health(
    context: ControllerContext, request: csi_pb2.ControllerGetVolumeHealthRequest
) -> csi_pb2.ControllerGetVolumeHealthResponse:
    """CSI spec, "ControllerGetVolumeHealth"."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    record = lookups.get_volume(context.store, request.volume_id)
    return csi_pb2.ControllerGetVolumeHealthResponse(volume_health=_health(record, _usable_backends(context)))


def controller_list_volume_health(
    context: ControllerContext, request: csi_pb2.ControllerListVolumeHealthRequest
) -> csi_pb2.ControllerListVolumeHealthResponse:
    """CSI spec, "ControllerListVolumeHealth": volumes with something to report."""
    paging.check_max_entries(request.max_entries)
    request_rules.check_sizes(request)
    after = paging.read_token("health", request.starting_token)
    usable = _usable_backends(context)
    visible = (
        record for record in lookups.iterate(context.store, VolumeRecord, after=after) if lookups.is_visible(record)
    )
    found = ((record.id, _health(record, usable)) for record in visible)
    impaired = ((volume_id, health) for volume_id, health in found if health.health_statuses)
    page, last_id = paging.take_page(impaired, request.max_entries)
    return csi_pb2.ControllerListVolumeHealthResponse(
        entries=page,
        next_token=paging.make_token("health", last_id) if last_id else "",
    )


def _usable_backends(context: ControllerContext) -> dict[str, bool]:
    """Backend name -> whether its storage says that it works, for the backends that are ready."""
    return {backend.name: driver_stats.is_up(backend.driver_stats.recent()) for backend in context.backends.ready()}


def _health(record: VolumeRecord, usable: dict[str, bool]) -> csi_pb2.VolumeHealth:
    health = csi_pb2.VolumeHealth(volume_id=record.id)

    def report(reason: str, message: str) -> None:
        health.health_statuses.append(Entry(status=csi_pb2.DEGRADED, reason=reason, message=request_rules.fit(message)))

    if record.backend not in usable:
        report("BackendUnavailable", f"backend {record.backend} is not ready, so the volume cannot be managed now")
    elif not usable[record.backend]:
        report("BackendDown", f"the storage of backend {record.backend} reports that it is down")
    if record.status.startswith("error"):
        report("OperationFailed", f"the last operation on the volume left it in status {record.status}")
    if record.replication_status in _REPLICATION_FAULTS:
        report("ReplicationFault", f"replication status is {record.replication_status}")
    return health
