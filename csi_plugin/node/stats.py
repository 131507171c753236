"""NodeGetVolumeStats: how full a volume is."""

import os

from csi_plugin.attachment.host_tables import device_size
from csi_plugin.node import validation
from csi_plugin.node.context import NodeContext
from csi_plugin.node.staged_volumes import find_used_at
from csi_plugin.node.timed_calls import TIMED_CALLS
from csi_plugin.protocol import csi_pb2

_Usage = csi_pb2.VolumeUsage


def node_get_volume_stats(
    context: NodeContext, request: csi_pb2.NodeGetVolumeStatsRequest
) -> csi_pb2.NodeGetVolumeStatsResponse:
    """CSI spec, "NodeGetVolumeStats": bytes and inodes of a filesystem, bytes of a block device."""
    validation.check_stats(request)
    usage = TIMED_CALLS.run(
        request.volume_id,
        f"usage at {request.volume_path}",
        lambda: _usage(context, request.volume_id, request.volume_path),
    )
    return csi_pb2.NodeGetVolumeStatsResponse(usage=usage)


def _usage(context: NodeContext, volume_id: str, path: str) -> list[csi_pb2.VolumeUsage]:
    state = find_used_at(context, volume_id, path)
    if state.access_type == "block":
        return [_Usage(unit=_Usage.BYTES, total=device_size(state.device_path))]
    return filesystem_usage(os.statvfs(path))


def filesystem_usage(counts: os.statvfs_result) -> list[csi_pb2.VolumeUsage]:
    """Bytes, and inodes where there is a fixed number of them, as btrfs has none."""
    usage = [
        _Usage(
            unit=_Usage.BYTES,
            total=counts.f_blocks * counts.f_frsize,
            available=counts.f_bavail * counts.f_frsize,
            used=(counts.f_blocks - counts.f_bfree) * counts.f_frsize,
        )
    ]
    if counts.f_files:
        usage.append(
            _Usage(
                unit=_Usage.INODES,
                total=counts.f_files,
                available=counts.f_ffree,
                used=counts.f_files - counts.f_ffree,
            )
        )
    return usage
