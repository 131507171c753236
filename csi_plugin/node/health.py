"""NodeGetVolumeHealth and NodeGetStorageHealth: what is wrong with staged volumes, as the kernel knows it."""

from pathlib import Path

from csi_plugin.node import mounts
from csi_plugin.node.context import Core
from csi_plugin.node.stage import is_own_device
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import not_found

_Entry = csi_pb2.VolumeHealth.VolumeHealthEntry
_Backend = csi_pb2.NodeGetStorageHealthResponse.StorageBackendHealth


def node_get_volume_health(
    core: Core, request: csi_pb2.NodeGetVolumeHealthRequest
) -> csi_pb2.NodeGetVolumeHealthResponse:
    """CSI spec, "NodeGetVolumeHealth". Reads the kernel's tables; nothing is written to the volume."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    state = core.states.load(request.volume_id)
    if state is None:
        raise not_found(f"volume_id: no volume of the id {request.volume_id!r} is on this node")
    return csi_pb2.NodeGetVolumeHealthResponse(
        volume_health=csi_pb2.VolumeHealth(volume_id=state.volume_id, health_statuses=_problems(state))
    )


def node_get_storage_health(
    core: Core, request: csi_pb2.NodeGetStorageHealthRequest
) -> csi_pb2.NodeGetStorageHealthResponse:
    """CSI spec, "NodeGetStorageHealth": whether the storage of staged volumes can be reached from this node."""
    request_rules.check_sizes(request)
    staged = [state for state in core.states.all() if state.staged]
    gone = [state.volume_id for state in staged if not is_own_device(state)]
    if not gone:
        return csi_pb2.NodeGetStorageHealthResponse()
    everything = len(gone) == len(staged)
    return csi_pb2.NodeGetStorageHealthResponse(
        backend_health=[
            _Backend(
                status=csi_pb2.STORAGE_UNREACHABLE if everything else csi_pb2.STORAGE_DEGRADED,
                reason="DevicesGone",
                message=f"{len(gone)} of {len(staged)} staged volumes have lost their device: {', '.join(gone[:10])}",
            )
        ]
    )


def _problems(state: VolumeState) -> list[csi_pb2.VolumeHealth.VolumeHealthEntry]:
    if state.staged and not is_own_device(state):
        return [
            _Entry(
                status=csi_pb2.INACCESSIBLE, reason="DeviceGone", message=f"device {state.path} cannot be read any more"
            )
        ]
    if not state.staged or state.access_type == "block":
        return []
    mounted = mounts.at(state.staging_path)
    if mounted is None or not mounts.is_of(mounted, state.path):
        message = f"{state.path} is not mounted at {state.staging_path} any more"
        return [_Entry(status=csi_pb2.INACCESSIBLE, reason="NotMounted", message=message)]
    problems = []
    if (mounted.is_read_only and not state.read_only) or _super_read_only(state):
        message = "the kernel has made the filesystem read-only, as it does after errors"
        problems.append(_Entry(status=csi_pb2.DEGRADED, reason="FilesystemReadOnly", message=message))
    if errors := _filesystem_errors(state):
        message = f"the filesystem has recorded {errors} errors; check it with fsck when it can be unmounted"
        problems.append(_Entry(status=csi_pb2.DEGRADED, reason="FilesystemErrors", message=message))
    return problems


def _super_read_only(state: VolumeState) -> bool:
    """Whether the filesystem itself went read-only, which its mount's own flags do not show."""
    if state.read_only:
        return False
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, _, _, options, *_ = line.split(" ")
        if source == state.path:
            return "ro" in options.split(",")
    return False


def _filesystem_errors(state: VolumeState) -> int:
    name = Path(state.path).resolve().name
    if state.filesystem == "ext4":
        return _number(Path("/sys/fs/ext4") / name / "errors_count")
    if state.filesystem == "btrfs":
        lines = (
            line.split()
            for stats in Path("/sys/fs/btrfs").glob("*/devinfo/*/error_stats")
            if (stats.parents[2] / "devices" / name).exists()
            for line in stats.read_text().splitlines()
        )
        return sum(int(words[1]) for words in lines if len(words) == 2 and words[1].isdecimal())
    return 0


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
