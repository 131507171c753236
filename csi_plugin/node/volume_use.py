"""NodeGetVolumeStats and NodeExpandVolume: how full a volume is, and making it larger where it is used."""

import os
from pathlib import Path
from typing import Any

from csi_plugin.attachment.devices import size_of
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.node import filesystems, mounts
from csi_plugin.node.context import Core
from csi_plugin.node.stage import is_own_device
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import failed_precondition, invalid_argument, not_found, out_of_range

_Usage = csi_pb2.VolumeUsage


def node_get_volume_stats(core: Core, request: csi_pb2.NodeGetVolumeStatsRequest) -> csi_pb2.NodeGetVolumeStatsResponse:
    """CSI spec, "NodeGetVolumeStats": bytes and inodes of a filesystem, bytes of a block device."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "volume_path")
    state = used_at(core, request.volume_id, request.volume_path)
    if state.access_type == "block":
        return csi_pb2.NodeGetVolumeStatsResponse(usage=[_Usage(unit=_Usage.BYTES, total=size_of(state.path))])
    counts = os.statvfs(request.volume_path)
    usage = [
        _Usage(
            unit=_Usage.BYTES,
            total=counts.f_blocks * counts.f_frsize,
            available=counts.f_bavail * counts.f_frsize,
            used=(counts.f_blocks - counts.f_bfree) * counts.f_frsize,
        )
    ]
    if counts.f_files:  # btrfs has no fixed number of inodes
        usage.append(
            _Usage(
                unit=_Usage.INODES,
                total=counts.f_files,
                available=counts.f_ffree,
                used=counts.f_files - counts.f_ffree,
            )
        )
    return csi_pb2.NodeGetVolumeStatsResponse(usage=usage)


def node_expand_volume(
    core: Core, request: csi_pb2.NodeExpandVolumeRequest, context: Any
) -> csi_pb2.NodeExpandVolumeResponse:
    """CSI spec, "NodeExpandVolume", also while the volume is in use."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "volume_path")
    capacity = request.capacity_range
    if capacity.required_bytes < 0 or capacity.limit_bytes < 0:
        raise invalid_argument("capacity_range must not be negative")
    if capacity.limit_bytes and capacity.required_bytes > capacity.limit_bytes:
        raise invalid_argument("capacity_range: required_bytes must not be more than limit_bytes")
    grown: list[int] = []
    core.run(request.volume_id, "expand", request, context, lambda: grown.append(_expand(core, request)))
    state = core.states.load(request.volume_id)
    size = grown[0] if grown else size_of(state.path) if state else 0
    return csi_pb2.NodeExpandVolumeResponse(capacity_bytes=size)


def _expand(core: Core, request: csi_pb2.NodeExpandVolumeRequest) -> int:
    state = used_at(core, request.volume_id, request.volume_path)
    if not is_own_device(state):
        raise failed_precondition(f"volume {state.volume_id} has lost its device {state.path}; stage it again")
    size = int(
        core.attachment_process.run(
            "extend",
            sealed=state.sealed,
            context=core.seal_context(state.volume_id),
            device=state.device,
            encrypted=state.encrypted,
            secrets=dict(request.secrets),
        )
    )
    failpoint("expand_node.device")
    if size < request.capacity_range.required_bytes and not state.encrypted:
        raise out_of_range(
            f"capacity_range: the device has {size} bytes, fewer than required_bytes; expand the volume in the "
            "controller first"
        )
    if state.access_type == "mount" and not state.read_only:
        filesystems.grow(state.path, state.staging_path, state.filesystem)
    return size


def used_at(core: Core, volume_id: str, path: str) -> VolumeState:
    """The volume if it is staged or published at a path. Raises NOT_FOUND."""
    state = core.states.load(volume_id)
    if state is None:
        raise not_found(f"volume_id: no volume of the id {volume_id!r} is on this node")
    if state.access_type == "block" and path in (*state.targets, state.staging_path):
        return state
    mounted = mounts.at(path) if Path(path).exists() else None
    if mounted is None or not mounts.is_of(mounted, state.path):
        raise not_found(f"volume_path: volume {volume_id} is not at {path}")
    return state
