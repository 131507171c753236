"""ControllerExpandVolume."""

from csi_plugin.controller import access, lookups, placement, sizes, storage_objects
from csi_plugin.controller.context import Call, Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.fingerprint import fingerprint
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import failed_precondition, invalid_argument, out_of_range, unimplemented


def controller_expand_volume(
    core: Core, request: csi_pb2.ControllerExpandVolumeRequest, call: Call
) -> csi_pb2.ControllerExpandVolumeResponse:
    """CSI spec, "ControllerExpandVolume". The node always has to act: a connected device must be read anew."""
    _validate(core, request)
    capacity = request.capacity_range
    size = core.inflight.run(
        f"volume/{request.volume_id}",
        fingerprint(["expand", capacity.required_bytes, capacity.limit_bytes]),
        lambda: _expanded(core, request.volume_id, capacity, request.volume_capability),
        wait_seconds=call.time_remaining(),
    )
    return csi_pb2.ControllerExpandVolumeResponse(capacity_bytes=size * sizes.GIB, node_expansion_required=True)


def _validate(core: Core, request: csi_pb2.ControllerExpandVolumeRequest) -> None:
    if "expand" in core.configuration.disabled_features:
        raise unimplemented("expanding volumes is disabled here (disabled_features: expand)")
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "capacity_range")
    sizes.check_range(request.capacity_range)
    if not request.capacity_range.required_bytes and not request.capacity_range.limit_bytes:
        raise invalid_argument("capacity_range: required_bytes or limit_bytes must be above 0")
    if request.HasField("volume_capability"):
        request_rules.check_capability(request.volume_capability, field="volume_capability")
        access.check_access([request.volume_capability], core.configuration, field="volume_capability")


def _expanded(core: Core, volume_id: str, capacity: csi_pb2.CapacityRange, capability: csi_pb2.VolumeCapability) -> int:
    """The size in GiB after expansion; a volume that is large enough keeps its size."""
    record = lookups.existing_volume(core.store, volume_id)
    if access.needs_multiattach([capability]) and not record.multiattach:
        raise invalid_argument("volume_capability: the volume was not created for several nodes")
    if sizes.fits(record.size, capacity):
        return record.size
    if capacity.required_bytes <= record.size * sizes.GIB:
        raise out_of_range(
            f"capacity_range.limit_bytes ({capacity.limit_bytes}) is less than the volume's present size "
            f"({record.size} GiB), and volumes do not shrink"
        )
    size = sizes.size_in_range(capacity)
    nodes = [connection.node_id or "a host" for connection in lookups.connections_of(core.store, volume_id)]
    backend = storage_objects.backend(core, record.backend)
    offline_only = "expand_online" in core.configuration.disabled_features or not backend.supports("online_extend")
    if nodes and offline_only:
        raise failed_precondition(
            f"volume {volume_id} is published to {', '.join(sorted(nodes))}, and backend {record.backend} expands "
            "only volumes that are not in use"
        )
    if record.status == "extending":  # cut off by a crash: the mark that this call holds says that nothing runs
        record.status = "error_extending"
        record = core.store.update(record)
    with (
        core.sources.changing(f"volume/{volume_id}"),
        placement.shortages(backend, pool=record.pool, gib=size - record.size, extra_specs=record.extra_specs),
        driver_errors(f"expanding volume {volume_id}"),
    ):
        storage_objects.volume(core, record).extend(size)
    return size
