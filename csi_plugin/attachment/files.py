"""Volumes that are files, of this host or of a share that os-brick mounts: raw ones, through loop devices."""

import os
from pathlib import Path
from typing import Any

from csi_plugin.attachment import host_tables, loop_devices, regular_files
from csi_plugin.attachment.errors import AttachmentError

LOCAL_FOLDERS = "CINDERBOX_ATTACHMENT_LOCAL_FOLDERS"
NODE_FOLDER = "CINDERBOX_ATTACHMENT_NODE_FOLDER"
_FORMATS = (None, "raw")
_SYSTEM_FOLDERS = ("/proc", "/sys", "/dev", "/etc", "/boot", "/root", "/usr")


def check_format(connection_info: dict[str, Any]) -> None:
    """Raises AttachmentError for a file that is more than the volume's bytes."""
    file_format = connection_info["data"].get("format")
    if file_format not in _FORMATS:
        raise AttachmentError(f"the volume is a {file_format} file; only raw files can be attached")


def local_file(connection_info: dict[str, Any]) -> str | None:
    """The file of a volume that is one on this host, for which os-brick has nothing to do."""
    if str(connection_info.get("driver_volume_type", "")).lower() != "local":
        return None
    path = os.path.normpath(str(connection_info["data"]["device_path"]))
    return None if path.startswith("/dev/") else path


def check_local(path: str) -> None:
    """Raises AttachmentError for a file that is not in a folder for volumes: storage names no other file.

    LOCAL_FOLDERS has these folders; without it, all are but the kernel's and the system's, and the node's own.
    """
    folder = Path(path).parent.resolve()
    named = os.environ.get(LOCAL_FOLDERS)
    if named is not None:
        allowed = [Path(name).resolve() for name in named.split(os.pathsep) if name]
        if not any(folder.is_relative_to(one) for one in allowed):
            raise AttachmentError(f"{path} is in none of the folders in local_folders ({named or 'none'})")
        return
    own = os.environ.get(NODE_FOLDER) or _SYSTEM_FOLDERS[0]
    for refused in (*map(Path, _SYSTEM_FOLDERS), Path(own).resolve()):
        if folder.is_relative_to(refused):
            raise AttachmentError(f"{path} is in {refused}, where no volumes are; local_folders says where they are")


def attach(folder: Path, name: str, *, read_only: bool) -> dict[str, Any]:
    """Device information of the loop device of a volume's file below a folder, with the ``file``.

    Links are not followed below the folder. Raises AttachmentError and OSError.
    """
    folder = folder.resolve()
    descriptor = regular_files.open_below(str(folder), name, read_only=read_only)
    try:
        loop_device = loop_devices.attach(descriptor, Path(name).name, read_only=read_only)
    finally:
        os.close(descriptor)
    return {"type": "local", "path": loop_device, "file": f"{folder}/{name}"}


def find_attached(connection_info: dict[str, Any], connector: Any) -> str | None:
    """The file on a share that was attached and not recorded: os-brick knows nothing of its loop device."""
    data = connection_info["data"]
    if data.get("export") and data.get("name") in host_tables.loop_devices_by_file_name():
        return str(connector.get_volume_paths(data)[0])
    return None
