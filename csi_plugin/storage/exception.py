"""The library's errors, under the names that cinderlib gave them; most are Cinder's own."""

from csi_plugin.persistence.base import InvalidPersistence
from csi_plugin.storage.cinder import exception

NotFound = exception.NotFound
VolumeNotFound = exception.VolumeNotFound
SnapshotNotFound = exception.SnapshotNotFound
ConnectionNotFound = exception.VolumeAttachmentNotFound
GroupNotFound = exception.GroupNotFound
GroupSnapshotNotFound = exception.GroupSnapshotNotFound
InvalidVolume = exception.InvalidVolume
InvalidSnapshot = exception.InvalidSnapshot
VolumeIsBusy = exception.VolumeIsBusy
SnapshotIsBusy = exception.SnapshotIsBusy

__all__ = [
    "ConnectionNotFound",
    "GroupNotFound",
    "GroupSnapshotNotFound",
    "InvalidPersistence",
    "InvalidSnapshot",
    "InvalidVolume",
    "NotFound",
    "NotLocal",
    "SnapshotIsBusy",
    "SnapshotNotFound",
    "VolumeIsBusy",
    "VolumeNotFound",
]


class NotLocal(Exception):
    """detach() of a volume that is not attached to this host."""

    def __init__(self, name: str) -> None:
        super().__init__(f"volume {name} is not attached to this host")
