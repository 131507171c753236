"""GetCapacity: the room that Cinder's scheduler sees, from the last stats of the backends."""

from google.protobuf.wrappers_pb2 import Int64Value

from csi_plugin.controller import luks_headers
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.placement import with_qos
from csi_plugin.controller.requests import access
from csi_plugin.controller.requests.parameters import parse_volume_parameters
from csi_plugin.controller.requests.volume_request import check_use
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import unavailable
from csi_plugin.storage.cinder import scheduler
from csi_plugin.units import GIB


def get_capacity(context: ControllerContext, request: csi_pb2.GetCapacityRequest) -> csi_pb2.GetCapacityResponse:
    """CSI spec, "GetCapacity"."""
    request_rules.check_sizes(request)
    parameters = parse_volume_parameters(request.parameters, {})
    check_use(request.volume_capabilities, parameters, context.configuration)
    segments = dict(request.accessible_topology.segments)
    backends = [backend for backend in context.backends.ready() if parameters.backend in ("", backend.name)]
    starting = [name for name in context.backends.starting() if parameters.backend in ("", name)]
    if starting and not backends:
        # COs keep what they were told last. An answer of no room would stop them for as long as they do not ask again.
        raise unavailable(f"backend {', '.join(sorted(starting))} is starting; its room is not known yet")
    if backends:
        backends = with_qos(backends, parameters.qos_specs)
    with driver_errors("reading capacity"):
        room = scheduler.capacity(
            backends,
            extra_specs=parameters.extra_specs,
            pool_name=parameters.pool or None,
            topology=[segments] if segments else None,
            multiattach=access.needs_multiattach(request.volume_capabilities),
        )
    header = luks_headers.new_header_gib(parameters.encryption) * GIB
    return csi_pb2.GetCapacityResponse(
        available_capacity=max(room.available_bytes - header, 0),
        maximum_volume_size=None if room.maximum_bytes is None else _without(room.maximum_bytes, header),
        minimum_volume_size=None if room.minimum_bytes is None else Int64Value(value=room.minimum_bytes),
    )


def _without(size: int, header: int) -> Int64Value:
    return Int64Value(value=max(size - header, 0))
