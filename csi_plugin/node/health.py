"""NodeGetVolumeHealth and NodeGetStorageHealth: what is wrong with staged volumes, as the kernel knows it."""

from csi_plugin.attachment import host_tables
from csi_plugin.node import mounts
from csi_plugin.node.context import NodeContext
from csi_plugin.node.staged_volumes import has_own_device
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import not_found

_Entry = csi_pb2.VolumeHealth.VolumeHealthEntry
_Backend = csi_pb2.NodeGetStorageHealthResponse.StorageBackendHealth


def node_get_volume_health(
    context: NodeContext, request: csi_pb2.NodeGetVolumeHealthRequest
) -> csi_pb2.NodeGetVolumeHealthResponse:
    """CSI spec, "NodeGetVolumeHealth". Reads the kernel's tables; nothing is written to the volume."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    state = context.states.load(request.volume_id)
    if state is None:
        raise not_found(f"volume_id: no volume of the id {request.volume_id!r} is on this node")
    return csi_pb2.NodeGetVolumeHealthResponse(
        volume_health=csi_pb2.VolumeHealth(volume_id=state.volume_id, health_statuses=_problems(state))
    )


def node_get_storage_health(
    context: NodeContext, request: csi_pb2.NodeGetStorageHealthRequest
) -> csi_pb2.NodeGetStorageHealthResponse:
    """CSI spec, "NodeGetStorageHealth": whether the storage of staged volumes can be reached from this node."""
    request_rules.check_sizes(request)
    staged = [state for state in context.states.all() if state.staged]
    lost = [state.volume_id for state in staged if not has_own_device(state)]
    if not lost:
        return csi_pb2.NodeGetStorageHealthResponse()
    all_are_lost = len(lost) == len(staged)
    return csi_pb2.NodeGetStorageHealthResponse(
        backend_health=[
            _Backend(
                status=csi_pb2.STORAGE_UNREACHABLE if all_are_lost else csi_pb2.STORAGE_DEGRADED,
                reason="DevicesGone",
                message=request_rules.fit(
                    f"{len(lost)} of {len(staged)} staged volumes have lost their device: {', '.join(lost[:10])}"
                ),
            )
        ]
    )


def _problems(state: VolumeState) -> list[csi_pb2.VolumeHealth.VolumeHealthEntry]:
    if not state.staged:
        return []
    if not has_own_device(state):
        return [_inaccessible("DeviceGone", f"device {state.device_path} cannot be read any more")]
    if state.access_type == "block":
        return []
    mounted = mounts.at(state.staging_path)
    if mounted is None or not mounts.is_of(mounted, state.device_path):
        return [_inaccessible("NotMounted", f"{state.device_path} is not mounted at {state.staging_path} any more")]
    problems = []
    if not state.read_only and (mounted.is_read_only or mounted.is_filesystem_read_only):
        message = "the kernel has set the filesystem read-only, as it does after errors"
        problems.append(_degraded("FilesystemReadOnly", message))
    if errors := _filesystem_errors(state):
        message = f"the filesystem has recorded {errors} errors; check it with fsck when it can be unmounted"
        problems.append(_degraded("FilesystemErrors", message))
    return problems


def _filesystem_errors(state: VolumeState) -> int:
    match state.filesystem:
        case "ext2" | "ext3" | "ext4":
            return host_tables.ext4_error_count(state.device_path)
        case "btrfs":
            return host_tables.btrfs_error_count(state.device_path)
        case _:
            return 0


def _inaccessible(reason: str, message: str) -> csi_pb2.VolumeHealth.VolumeHealthEntry:
    return _Entry(status=csi_pb2.INACCESSIBLE, reason=reason, message=request_rules.fit(message))


def _degraded(reason: str, message: str) -> csi_pb2.VolumeHealth.VolumeHealthEntry:
    return _Entry(status=csi_pb2.DEGRADED, reason=reason, message=request_rules.fit(message))
