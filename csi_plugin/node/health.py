"""NodeGetVolumeHealth and NodeGetStorageHealth: what is wrong with this node's volumes, as the kernel knows it, and why
they could not be staged or published."""

from csi_plugin.attachment import mounted_filesystems
from csi_plugin.node import mounts
from csi_plugin.node.context import NodeContext, inflight_key
from csi_plugin.node.failures import Failure
from csi_plugin.node.staged_volumes import (
    has_own_device,
    has_own_devices,
    is_over_paths,
    lost_device,
    usable_paths,
)
from csi_plugin.node.volume_state import StateUnreadable, VolumeState
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import RpcError, not_found

_Entry = csi_pb2.VolumeHealth.VolumeHealthEntry
_Backend = csi_pb2.NodeGetStorageHealthResponse.StorageBackendHealth


def node_get_volume_health(
    context: NodeContext, request: csi_pb2.NodeGetVolumeHealthRequest
) -> csi_pb2.NodeGetVolumeHealthResponse:
    """CSI spec, "NodeGetVolumeHealth": also for a volume that the CO has attempted to stage. Reads the kernel's tables;
    nothing is written to the volume."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    volume_id = request.volume_id
    failures = [_failed(failure) for failure in context.failures.of(volume_id)]
    try:
        state = context.states.load(volume_id)
    except StateUnreadable as error:
        problems = [_degraded("StateUnreadable", error.message)]
    else:
        if state is None and not failures:
            raise not_found(f"volume_id: no volume of the id {volume_id!r} is on this node")
        problems = _problems(context, state) if state is not None and (state.staged or not failures) else []
    return csi_pb2.NodeGetVolumeHealthResponse(
        volume_health=csi_pb2.VolumeHealth(volume_id=volume_id, health_statuses=[*failures, *problems])
    )


def node_get_storage_health(
    context: NodeContext, request: csi_pb2.NodeGetStorageHealthRequest
) -> csi_pb2.NodeGetStorageHealthResponse:
    """CSI spec, "NodeGetStorageHealth": whether the storage of staged volumes can be reached from this node."""
    request_rules.check_sizes(request)
    staged = [state for state in context.states.all() if state.staged]
    lost = [state.volume_id for state, is_own in has_own_devices(staged) if not is_own]
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


def _failed(failure: Failure) -> csi_pb2.VolumeHealth.VolumeHealthEntry:
    done = {"stage": "staged", "publish": "published"}[failure.verb]
    reason = {"stage": "StageFailed", "publish": "PublishFailed"}[failure.verb]
    return _inaccessible(reason, f"the volume could not be {done}: {failure.message}")


def _problems(context: NodeContext, state: VolumeState) -> list[csi_pb2.VolumeHealth.VolumeHealthEntry]:
    if not state.staged:
        if any(operation.key == inflight_key(state.volume_id) for operation in context.inflight.running()):
            return []  # it is being staged, or taken away
        return [_inaccessible("NotStaged", "staging the volume has begun and has not ended; the CO has to repeat it")]
    try:
        is_own = has_own_device(state)
    except RpcError as error:
        return [_inaccessible("DeviceNotAnswering", error.message)]
    if not is_own:
        return [_inaccessible("DeviceGone", lost_device(state).message)]
    problems = []
    if is_over_paths(state) and (usable := usable_paths(state)) < state.path_count:
        message = f"the storage is reached over {usable} of {state.path_count} paths"
        problems.append(_degraded("PathsLost", message) if usable else _inaccessible("PathsLost", message))
    if state.access_type == "block":
        return problems
    mounted = mounts.at(state.staging_path)
    if mounted is None or not mounts.is_of(mounted, state.device_path):
        return [_inaccessible("NotMounted", f"{state.device_path} is not mounted at {state.staging_path} any more")]
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
            return mounted_filesystems.ext4_error_count(state.device_path)
        case "btrfs":
            return mounted_filesystems.btrfs_error_count(state.device_path)
        case _:
            return 0


def _inaccessible(reason: str, message: str) -> csi_pb2.VolumeHealth.VolumeHealthEntry:
    return _Entry(status=csi_pb2.INACCESSIBLE, reason=reason, message=request_rules.fit(message))


def _degraded(reason: str, message: str) -> csi_pb2.VolumeHealth.VolumeHealthEntry:
    return _Entry(status=csi_pb2.DEGRADED, reason=reason, message=request_rules.fit(message))
