"""ControllerModifyVolume: new extra specs and QoS specs for a volume, by Cinder's retype."""

import grpc

from csi_plugin.controller import lookups, storage_objects
from csi_plugin.controller.attempts import resource_of
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.requests.parameters import parse_mutable_parameters
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import RpcError, invalid_argument

_CANNOT = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""With INVALID_ARGUMENT the claim can be given another class; the last one is work in progress for its sidecar."""


def controller_modify_volume(
    context: ControllerContext, request: csi_pb2.ControllerModifyVolumeRequest, call: Call
) -> csi_pb2.ControllerModifyVolumeResponse:
    """CSI spec, "ControllerModifyVolume". Specs that the request does not name stay.

    Naming none changes nothing: the spec has them required, and csi-sanity sends none.
    """
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    extra_specs, qos_specs = parse_mutable_parameters(request.mutable_parameters)
    context.run(
        resource_of(VolumeRecord, request.volume_id),
        ["modify", extra_specs, qos_specs],
        lambda: _modify(context, request.volume_id, extra_specs, qos_specs),
        call,
    )
    return csi_pb2.ControllerModifyVolumeResponse()


def _modify(context: ControllerContext, volume_id: str, extra_specs: dict[str, str], qos_specs: dict[str, str]) -> None:
    record = lookups.get_volume(context.store, volume_id)
    new_extra_specs = record.extra_specs | extra_specs
    new_qos_specs = record.qos_specs | qos_specs
    if (new_extra_specs, new_qos_specs) == (record.extra_specs, record.qos_specs):
        return
    storage_objects.configured_backend(context, record.backend, field="volume_id")
    volume = storage_objects.volume(context, record)
    changed = {name: value for name, value in qos_specs.items() if record.qos_specs.get(name) != value}
    try:
        volume.backend.check_qos(changed)
    except ValueError as error:
        raise invalid_argument(f"mutable_parameters: backend {record.backend}: {error}") from error
    try:
        with driver_errors(f"modifying volume {volume_id}"):
            volume.retype(extra_specs=new_extra_specs, qos_specs=new_qos_specs)
    except RpcError as error:
        if error.code in _CANNOT:  # the driver says so without having changed anything
            raise invalid_argument(f"mutable_parameters: {error.message}") from error
        raise
