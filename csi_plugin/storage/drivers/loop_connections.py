"""The loop driver's connections: whoever attaches a volume on this host makes a loop device of its file."""

from typing import Any

from csi_plugin.storage.drivers.loop_base import LoopDriverBase, Model


class LoopConnections(LoopDriverBase):
    """Exports and connections of volumes and snapshots."""

    def ensure_export(self, context: Any, volume: Any) -> None:
        """A file needs no export."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """A file needs no export."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """A file needs no export."""

    def create_export_snapshot(self, context: Any, snapshot: Any, connector: Any) -> None:
        """A file needs no export."""

    def remove_export_snapshot(self, context: Any, snapshot: Any) -> None:
        """A file needs no export."""

    def initialize_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Model:
        """Connection information for os-brick's LocalConnector; `device_path` is a regular file."""
        return {
            "driver_volume_type": "local",
            "data": {"device_path": str(self._existing_path(volume)), "volume_id": volume.id},
        }

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> None:
        """Nothing was set up for a connector."""

    def initialize_connection_snapshot(self, snapshot: Any, connector: Any, **kwargs: Any) -> Model:
        path = self._existing_path(snapshot)
        return {"driver_volume_type": "local", "data": {"device_path": str(path), "access_mode": "ro"}}

    def terminate_connection_snapshot(self, snapshot: Any, connector: Any, **kwargs: Any) -> None:
        """Nothing was set up for a connector."""
