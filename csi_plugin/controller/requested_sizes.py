"""The bytes that a volume was asked for with, where storage rounds them up to whole GiB.

A claim as large as the first one is enough for what a snapshot of it has; sidecars compare it with the size that the
snapshot's answer gives, so that is the size asked for, not the rounded one (CSI, "Snapshot": how much space is needed
to create a volume from it).
"""

from csi_plugin.controller import luks_headers
from csi_plugin.persistence.records import REQUESTED_BYTES, SnapshotRecord, VolumeRecord
from csi_plugin.units import GIB


def volume_marks(required_bytes: int) -> dict[str, str]:
    """What a new volume's record says of the request."""
    return {REQUESTED_BYTES: str(required_bytes)} if required_bytes % GIB else {}


def snapshot_marks(volume: VolumeRecord) -> dict[str, str]:
    """What a new snapshot's record says of its volume's request: nothing once the volume was expanded beyond it."""
    requested = int(volume.admin_metadata.get(REQUESTED_BYTES, "0"))
    return volume_marks(requested) if -(-requested // GIB) == luks_headers.usable_gib(volume) else {}


def restore_bytes(snapshot: SnapshotRecord) -> int:
    """The least size of a claim that is created from it."""
    return int(snapshot.metadata.get(REQUESTED_BYTES, "0")) or luks_headers.usable_gib(snapshot) * GIB
