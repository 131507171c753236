"""Volumes that are files, of this host or of a share that os-brick mounts: raw ones, through loop devices."""

import os
from typing import Any

from csi_plugin.attachment import host_tables, loop_devices
from csi_plugin.attachment.errors import AttachmentError

_FORMATS = (None, "raw")


def check_format(connection_info: dict[str, Any]) -> None:
    """Raises AttachmentError for a file that is more than the volume's bytes."""
    file_format = connection_info["data"].get("format")
    if file_format not in _FORMATS:
        raise AttachmentError(f"the volume is a {file_format} file; only raw files can be attached")


def local_file(connection_info: dict[str, Any]) -> str | None:
    """The file of a volume that is one on this host, for which os-brick has nothing to do."""
    if str(connection_info.get("driver_volume_type", "")).lower() != "local":
        return None
    path = str(connection_info["data"]["device_path"])
    return None if path.startswith("/dev/") else path


def attach(device_info: dict[str, Any], *, read_only: bool) -> dict[str, Any]:
    """Device information of the file's loop device, with the ``file``, from that of the file. Raises ProgramFailed."""
    file = str(device_info["path"])
    loop_device = loop_devices.attach(file, read_only=read_only)
    return {**device_info, "path": loop_device, "file": os.path.realpath(file)}


def find_attached(connection_info: dict[str, Any], connector: Any) -> str | None:
    """The file on a share that was attached and not recorded: os-brick knows nothing of its loop device."""
    data = connection_info["data"]
    if data.get("export") and data.get("name") in host_tables.loop_devices_by_file_name():
        return str(connector.get_volume_paths(data)[0])
    return None
