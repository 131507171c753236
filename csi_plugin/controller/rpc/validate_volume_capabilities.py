"""ValidateVolumeCapabilities."""

from csi_plugin.controller import lookups
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.requests import access
from csi_plugin.controller.requests.parameters import own_context, parse_mutable_parameters, without_sidecar_keys
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2, mount_flags, request_rules
from csi_plugin.protocol.errors import RpcError


def validate_volume_capabilities(
    context: ControllerContext, request: csi_pb2.ValidateVolumeCapabilitiesRequest
) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
    """CSI spec, "ValidateVolumeCapabilities"."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "volume_capabilities")
    for capability in request.volume_capabilities:
        request_rules.check_capability(capability, field="volume_capabilities")
    record = lookups.get_volume(context.store, request.volume_id)
    if reason := _refusal(context, record, request):
        return csi_pb2.ValidateVolumeCapabilitiesResponse(message=request_rules.fit(reason))
    return csi_pb2.ValidateVolumeCapabilitiesResponse(
        confirmed=csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
            volume_context=request.volume_context,
            volume_capabilities=request.volume_capabilities,
            parameters=request.parameters,
            mutable_parameters=request.mutable_parameters,
        )
    )


def _refusal(
    context: ControllerContext, record: VolumeRecord, request: csi_pb2.ValidateVolumeCapabilitiesRequest
) -> str:
    """Why the volume does not have what the request asks for; empty when it does."""
    try:
        access.check_access(request.volume_capabilities, context.configuration, field="volume_capabilities")
        for capability in request.volume_capabilities:
            mount_flags.check_known(capability.mount, field="volume_capabilities.mount")
    except RpcError as error:
        return error.message
    if access.needs_multiattach(request.volume_capabilities) and not record.multiattach:
        return "volume_capabilities: the volume was not created for several nodes"
    if record.intent is not None:  # one that was not created for the CO has no context or parameters to compare with
        for name, given, known in (
            ("volume_context", own_context(request.volume_context), record.intent.context),
            ("parameters", without_sidecar_keys(request.parameters), record.intent.request.get("parameters", {})),
        ):
            if given and given != known:
                return f"{name}: not what the volume was created with"
    try:
        extra_specs, qos_specs = parse_mutable_parameters(request.mutable_parameters)
    except RpcError as error:
        return error.message
    if extra_specs.items() <= record.extra_specs.items() and qos_specs.items() <= record.qos_specs.items():
        return ""
    return "mutable_parameters: not what the volume has"
