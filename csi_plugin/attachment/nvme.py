"""NVMe over Fabrics: the device of a volume that was connected and not recorded."""

from typing import Any

from csi_plugin.attachment import connectors

_PROTOCOLS = ("nvme", "nvmeof")


def find_connected(connection_info: dict[str, Any]) -> dict[str, Any] | None:
    """os-brick's device information, None for other protocols too: os-brick disconnects only what it is told."""
    if str(connection_info.get("driver_volume_type", "")).lower() not in _PROTOCOLS:
        return None
    paths = connectors.connected_nvme_devices(connection_info)
    return {"type": "block", "path": paths[0]} if paths else None
