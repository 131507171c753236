"""ControllerExpandVolume."""

from dataclasses import dataclass

from csi_plugin.controller import lookups, luks_headers, storage_objects
from csi_plugin.controller.attempts import resource_of
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.placement import room_to_grow
from csi_plugin.controller.requests import access, sizes
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import failed_precondition, invalid_argument, out_of_range, unimplemented
from csi_plugin.units import GIB


@dataclass(frozen=True, kw_only=True)
class ExpandRequest:
    """A valid ControllerExpandVolumeRequest."""

    volume_id: str
    capacity: csi_pb2.CapacityRange
    capability: csi_pb2.VolumeCapability


def controller_expand_volume(
    context: ControllerContext, request: csi_pb2.ControllerExpandVolumeRequest, call: Call
) -> csi_pb2.ControllerExpandVolumeResponse:
    """CSI spec, "ControllerExpandVolume". The node always has to act: a connected device must be read anew."""
    expand = _read_request(context, request)
    size = context.run(
        resource_of(VolumeRecord, expand.volume_id),
        ["expand", expand.capacity.required_bytes, expand.capacity.limit_bytes],
        lambda: _expand(context, expand),
        call,
    )
    return csi_pb2.ControllerExpandVolumeResponse(capacity_bytes=size * GIB, node_expansion_required=True)


def _read_request(context: ControllerContext, request: csi_pb2.ControllerExpandVolumeRequest) -> ExpandRequest:
    if "expand" in context.configuration.disabled_features:
        raise unimplemented("expanding volumes is disabled here (disabled_features: expand)")
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "capacity_range")
    sizes.check_range(request.capacity_range)
    if not request.capacity_range.required_bytes and not request.capacity_range.limit_bytes:
        raise invalid_argument("capacity_range: required_bytes or limit_bytes must be above 0")
    if request.HasField("volume_capability"):
        request_rules.check_capability(request.volume_capability, field="volume_capability")
        access.check_access([request.volume_capability], context.configuration, field="volume_capability")
    return ExpandRequest(
        volume_id=request.volume_id, capacity=request.capacity_range, capability=request.volume_capability
    )


def _expand(context: ControllerContext, request: ExpandRequest) -> int:
    """The size in GiB after expansion, as the CO knows it; a volume that is large enough keeps its size."""
    volume = lookups.get_volume(context.store, request.volume_id)
    if access.needs_multiattach([request.capability]) and not volume.multiattach:
        raise invalid_argument("volume_capability: the volume was not created for several nodes")
    if sizes.fits(luks_headers.usable_gib(volume), request.capacity):
        return luks_headers.usable_gib(volume)
    header = luks_headers.header_gib(volume)
    size = _new_size(volume, request.capacity, header=header)
    _check_online(context, volume)
    volume = _settle_interrupted(context, volume)
    backend = storage_objects.backend(context, volume.backend)
    with (
        context.source_locks.changing(resource_of(VolumeRecord, volume.id)),
        room_to_grow(backend, volume, size=size),
        driver_errors(f"expanding volume {volume.id}"),
    ):
        storage_objects.volume(context, volume).extend(size)
    return size - header


def _new_size(volume: VolumeRecord, capacity: csi_pb2.CapacityRange, *, header: int) -> int:
    present = luks_headers.usable_gib(volume)
    if capacity.required_bytes <= present * GIB:
        raise out_of_range(
            f"capacity_range.limit_bytes ({capacity.limit_bytes}) is less than the volume's present size "
            f"({present} GiB), and volumes do not shrink"
        )
    return sizes.size_in_range(capacity, header=header)


def _check_online(context: ControllerContext, volume: VolumeRecord) -> None:
    """FAILED_PRECONDITION while the volume is in use and can only be expanded offline, or nobody has configured its
    backend."""
    nodes = [connection.node_id or "a host" for connection in lookups.connections_of(context.store, volume.id)]
    backend = storage_objects.configured_backend(context, volume.backend, field="volume_id")
    offline_only = "expand_online" in context.configuration.disabled_features or not backend.supports("online_extend")
    if nodes and offline_only:
        raise failed_precondition(
            f"volume {volume.id} is published to {', '.join(sorted(nodes))}, and backend {volume.backend} expands "
            "only volumes that are not in use"
        )


def _settle_interrupted(context: ControllerContext, volume: VolumeRecord) -> VolumeRecord:
    if volume.status == "extending":  # cut off by a crash: the mark that this call holds says that nothing runs
        volume.status = "error_extending"
        return context.store.update(volume)
    return volume
