"""NodeExpandVolume: making a volume larger where it is used."""

import grpc

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.node import filesystems, validation
from csi_plugin.node.context import NodeContext
from csi_plugin.node.staged_volumes import find_used_at, has_own_device, lost_device
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import failed_precondition, out_of_range
from csi_plugin.units import MIB

_OLD_HEADER_BYTES = 16 * MIB


def node_expand_volume(
    context: NodeContext, request: csi_pb2.NodeExpandVolumeRequest, call: grpc.ServicerContext
) -> csi_pb2.NodeExpandVolumeResponse:
    """CSI spec, "NodeExpandVolume", also while the volume is in use."""
    validation.check_expand(request)
    size = context.run(request.volume_id, "expand", request, call, lambda: _expand(context, request))
    return csi_pb2.NodeExpandVolumeResponse(capacity_bytes=size)


def _expand(context: NodeContext, request: csi_pb2.NodeExpandVolumeRequest) -> int:
    """Returns the bytes of the device that is used."""
    state = find_used_at(context, request.volume_id, request.volume_path)
    wanted_type = request.volume_capability.WhichOneof("access_type") or state.access_type
    if wanted_type != state.access_type:
        raise failed_precondition(
            f"volume_capability: volume {state.volume_id} is staged for {state.access_type} access, not {wanted_type}"
        )
    if not has_own_device(state):
        raise lost_device(state)
    size = int(
        context.attachment_process.run(
            "extend",
            sealed=state.sealed_connection,
            publication=context.publication(state.volume_id),
            device_info=state.device_info,
            encrypted=state.encrypted,
            secrets=dict(request.secrets),
        )
    )
    failpoint("expand_node.device")
    limit = request.capacity_range.limit_bytes
    if 0 < limit < size:
        raise out_of_range(f"capacity_range.limit_bytes ({limit}) is less than the device has, {size} bytes")
    # Encrypted volumes that older versions made hold less than their size, by a header.
    wanted = request.capacity_range.required_bytes - (_OLD_HEADER_BYTES if state.encrypted else 0)
    if size < wanted:
        raise out_of_range(
            f"capacity_range: the device has {size} bytes, fewer than required_bytes; expand the volume in the "
            "controller first"
        )
    if state.access_type == "mount" and not state.read_only:
        filesystems.grow(state.device_path, state.staging_path, state.filesystem)
    return size
