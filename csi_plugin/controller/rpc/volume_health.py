"""ControllerGetVolumeHealth and ControllerListVolumeHealth: from records and the backends' last state."""

from csi_plugin.controller import lookups
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.requests import paging
from csi_plugin.controller.volume_problems import Problem, VolumeProblems
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules

Entry = csi_pb2.VolumeHealth.VolumeHealthEntry


def controller_get_volume_health(
    context: ControllerContext, request: csi_pb2.ControllerGetVolumeHealthRequest
) -> csi_pb2.ControllerGetVolumeHealthResponse:
    """CSI spec, "ControllerGetVolumeHealth"."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    record = lookups.get_volume(context.store, request.volume_id)
    for backend in context.backends.ready():
        if backend.name == record.backend:
            backend.inventory.refresh(max_age=0)
    problems = VolumeProblems(context).of(record)
    return csi_pb2.ControllerGetVolumeHealthResponse(volume_health=_health(record.id, problems))


def controller_list_volume_health(
    context: ControllerContext, request: csi_pb2.ControllerListVolumeHealthRequest
) -> csi_pb2.ControllerListVolumeHealthResponse:
    """CSI spec, "ControllerListVolumeHealth": volumes with something to report."""
    paging.check_max_entries(request.max_entries)
    request_rules.check_sizes(request)
    after = paging.read_token("health", request.starting_token)
    problems = VolumeProblems(context)
    visible = (
        record for record in lookups.iterate(context.store, VolumeRecord, after=after) if lookups.is_visible(record)
    )
    found = ((record.id, _health(record.id, problems.of(record))) for record in visible)
    impaired = ((volume_id, health) for volume_id, health in found if health.health_statuses)
    page, last_id = paging.take_page(impaired, request.max_entries)
    return csi_pb2.ControllerListVolumeHealthResponse(
        entries=page,
        next_token=paging.make_token("health", last_id) if last_id else "",
    )


def _health(volume_id: str, problems: list[Problem]) -> csi_pb2.VolumeHealth:
    health = csi_pb2.VolumeHealth(volume_id=volume_id)
    for problem in problems:
        health.health_statuses.append(
            Entry(status=problem.status, reason=problem.reason, message=request_rules.fit(problem.message))
        )
    return health
