"""Whose the paths of a multipath map are: storages that give two volumes one name make multipathd join them."""

from pathlib import Path
from typing import Any

from csi_plugin.attachment import fibre_channel, host_tables, nvme, nvme_paths


def foreign(connection_info: dict[str, Any], connector: Any, folder: Path) -> list[str]:
    """The paths of a map, from its folder, that lead to no target of the volume's own, with where to.

    None for protocols whose targets are not known.
    """
    data = connection_info["data"]
    if hasattr(connector, "foreign_paths"):
        found: list[str] = connector.foreign_paths(data, folder)
        return found
    if fibre_channel.is_fibre_channel(connection_info):
        return fibre_channel.foreign_paths(data, folder)
    return nvme_paths.foreign_paths(connection_info, folder) if nvme.is_nvme(connection_info) else []


def release(connection_info: dict[str, Any], connector: Any, folder: Path) -> None:
    """Take the volume's own paths out of a map that has others, and off this host. The map stays: it may be in use."""
    data = connection_info["data"]
    if hasattr(connector, "disconnect_own"):
        connector.disconnect_own(data)
    elif fibre_channel.is_fibre_channel(connection_info):
        for disk in fibre_channel.own_disks(data, host_tables.lower_devices(folder)):
            # What is written to the map must not be flushed to this volume.
            connector._linuxscsi.remove_scsi_device(f"/dev/{disk.name}", force=True, flush=False)
    else:
        for path in nvme.connected_devices(connection_info):
            connector.disconnect_volume(data, {"type": "block", "path": path}, force=True, ignore_errors=True)
