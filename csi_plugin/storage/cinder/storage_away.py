"""The error of a storage that cannot be used now, found out before a driver is called."""

from cinder import exception


class StorageAway(exception.VolumeBackendAPIException):  # type: ignore[misc]  # Cinder has no type information
    """A backend's storage is not there, and nothing was done. gRPC: UNAVAILABLE."""

    def __init__(self, reason: str) -> None:
        super().__init__(data=reason)
