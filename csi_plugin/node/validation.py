"""Checks of the node's requests, before anything is touched."""

import base64
from pathlib import PurePosixPath

from csi_plugin.node import filesystems
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import failed_precondition, invalid_argument
from csi_plugin.protocol.mkfs_options import check_oldest_kernel

_NAME_LIMIT = 255
"""Bytes of each part of a path: Linux' NAME_MAX."""


def check_stage(request: csi_pb2.NodeStageVolumeRequest) -> None:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "staging_target_path", "volume_capability")
    check_path(request.staging_target_path, field="staging_target_path")
    request_rules.check_capability(request.volume_capability, field="volume_capability")
    if not request.publish_context.get("connection"):
        raise invalid_argument("publish_context must be the one that ControllerPublishVolume returned")
    filesystems.check_mkfs_words(request.volume_context.get(filesystems.MKFS_OPTIONS, ""))
    oldest_kernel = request.volume_context.get(filesystems.OLDEST_KERNEL, "")
    check_oldest_kernel(oldest_kernel, field=f"volume_context.{filesystems.OLDEST_KERNEL}")
    _check_connection(request.publish_context["connection"])


def _check_connection(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        raise invalid_argument(
            "publish_context.connection must be base64, as ControllerPublishVolume returned it"
        ) from None


def check_unstage(request: csi_pb2.NodeUnstageVolumeRequest) -> None:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "staging_target_path")
    check_path(request.staging_target_path, field="staging_target_path")


def check_publish(request: csi_pb2.NodePublishVolumeRequest) -> None:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "target_path", "volume_capability")
    check_path(request.target_path, field="target_path")
    request_rules.check_capability(request.volume_capability, field="volume_capability")
    if not request.staging_target_path:
        raise failed_precondition("staging_target_path is required: volumes are staged before they are published")


def check_unpublish(request: csi_pb2.NodeUnpublishVolumeRequest) -> None:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "target_path")
    check_path(request.target_path, field="target_path")


def check_expand(request: csi_pb2.NodeExpandVolumeRequest) -> None:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "volume_path")
    check_length(request.volume_path, field="volume_path")
    if request.HasField("volume_capability"):
        request_rules.check_capability(request.volume_capability, field="volume_capability")
    capacity = request.capacity_range
    if capacity.required_bytes < 0 or capacity.limit_bytes < 0:
        raise invalid_argument("capacity_range must not be negative")
    if capacity.limit_bytes and capacity.required_bytes > capacity.limit_bytes:
        raise invalid_argument("capacity_range: required_bytes must not be more than limit_bytes")


def check_stats(request: csi_pb2.NodeGetVolumeStatsRequest) -> None:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "volume_path")
    check_length(request.volume_path, field="volume_path")


def check_path(path: str, *, field: str) -> None:
    """Refuse paths that are not absolute or lead back up, and those that no filesystem has."""
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or "\0" in path or ".." in parts or len(parts) < 2:
        raise invalid_argument(f"{field} must be an absolute path without '..'")
    check_length(path, field=field)


def check_length(path: str, *, field: str) -> None:
    """Refuse paths that no filesystem has. It is enough where a path is only looked for: csi-sanity has relative ones
    be NOT_FOUND."""
    if "\0" in path:
        raise invalid_argument(f"{field} must have no U+0000")
    if any(len(part.encode()) > _NAME_LIMIT for part in PurePosixPath(path).parts):
        raise invalid_argument(f"{field} must have at most {_NAME_LIMIT} bytes between two slashes")
