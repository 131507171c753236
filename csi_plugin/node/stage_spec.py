"""What NodeStageVolume asks for, as the node reads it; what has been done of it is VolumeState."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from csi_plugin.node import filesystems, target_paths
from csi_plugin.protocol import csi_pb2, mount_rules
from csi_plugin.protocol.node_identity import UNFENCED


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSpec:
    """How the CO wants a volume staged."""

    volume_id: str
    staging_path: str
    access_type: str
    """mount or block."""
    access_mode: str
    """Name of the CSI access mode."""
    filesystem: str
    """Empty for any, or the node's default where the volume has none."""
    mount_flags: tuple[str, ...]
    mkfs_options: str
    oldest_kernel: str
    """That has to know a new filesystem; empty for the node's setting."""
    read_only: bool
    """By the access mode, or by a mount flag."""
    sealed_connection: str
    """Base64 of the connection information, sealed to this node."""
    unfenced: bool
    """Whether nothing but this node keeps it from writing when the volume is taken away."""
    secrets: Mapping[str, str] = field(repr=False)


def parse_stage_spec(request: csi_pb2.NodeStageVolumeRequest) -> StageSpec:
    """From a request that validation.check_stage has passed."""
    capability = request.volume_capability
    access_mode = csi_pb2.VolumeCapability.AccessMode.Mode.Name(capability.access_mode.mode)
    return StageSpec(
        volume_id=request.volume_id,
        staging_path=target_paths.normalize(request.staging_target_path),
        access_type=capability.WhichOneof("access_type") or "",
        access_mode=access_mode,
        filesystem=capability.mount.fs_type,
        mount_flags=tuple(capability.mount.mount_flags),
        mkfs_options=request.volume_context.get(filesystems.MKFS_OPTIONS, ""),
        oldest_kernel=request.volume_context.get(filesystems.OLDEST_KERNEL, ""),
        read_only=access_mode.endswith("READER_ONLY") or mount_rules.is_read_only(capability.mount.mount_flags),
        sealed_connection=request.publish_context["connection"],
        unfenced=request.publish_context.get(UNFENCED) == "true",
        secrets=dict(request.secrets),
    )
