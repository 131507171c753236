"""Connections of an attached volume that are lost: what is missing is added, and what is there is never touched.

Attaching again would be simpler, and is wrong: when os-brick cannot attach a volume it takes down all that there is of
it, under whoever uses it.
"""

import logging
import time
from pathlib import Path
from typing import Any

from csi_plugin.attachment import connectors, devices, host_tables, nvme, nvme_paths, scsi
from csi_plugin.attachment import multipath as multipath_maps
from csi_plugin.attachment.errors import AttachmentError, OtherVolume
from csi_plugin.attachment.programs import run

LOG = logging.getLogger(__name__)

_ISCSI = ("iscsi", "iser")
_FIBRE_CHANNEL = ("fibre_channel",)
_MAP_SECONDS = 10.0
_POLL_SECONDS = 0.2


def heal(
    connection_info: dict[str, Any],
    device_path: str,
    *,
    identity: str,
    multipath: bool,
    read_only: bool,
    root_helper: str,
) -> dict[str, Any] | None:
    """Add the paths that are missing of an attached volume, or bring back its device where that has gone.

    ``device_path``: the device as os-brick named it; ``identity``: what it was, empty where that was not recorded.
    Returns os-brick's information on a device that has come back, None where it was there all along. Raises
    AttachmentError when nothing can be had, and OtherVolume.
    """
    protocol = str(connection_info["driver_volume_type"]).lower()
    is_there = _is_there(device_path, identity)
    if is_there and host_tables.is_switched_off(host_tables.device_folder(device_path)):
        raise AttachmentError(
            f"{device_path} is all there is of it, and the kernel has switched it off after errors (offline): whatever "
            "uses it gets errors until its pods have ended and it is staged again, or until a person who knows that "
            "the storage still has the volume there writes running to "
            f"/sys/block/{host_tables.device_folder(device_path).name}/device/state"
        )
    if protocol in _ISCSI:
        connector = connectors.connector_for(connection_info, multipath=multipath, root_helper=root_helper)
        has_joined = is_there and _join_present(connector, connection_info["data"], device_path)
        try:
            new = connector.add_missing_paths(connection_info["data"])
        except AttachmentError:
            if has_joined:
                return None
            raise
        if is_there:
            _join(connector, device_path, new)
            return None
        return _find(connector, connection_info["data"], wait_for_map=multipath)
    if nvme.is_nvme(connection_info):
        has_joined = is_there and nvme_paths.join_present(connection_info, device_path, root_helper=root_helper)
        try:
            nvme_paths.connect_missing(connection_info["data"], root_helper=root_helper)
        except AttachmentError:
            if has_joined:
                return None
            raise
        if is_there:
            nvme_paths.join(connection_info, device_path, root_helper=root_helper)
            return None
        return _wait_for_nvme(connection_info)
    if protocol in _FIBRE_CHANNEL and is_there:
        connector = connectors.connector_for(connection_info, multipath=multipath, root_helper=root_helper)
        connectors.rescan_fibre_channel(connector, connection_info["data"])
        if hasattr(connector, "disks"):
            _join_present(connector, connection_info["data"], device_path)
        return None
    if is_there:
        raise AttachmentError(f"paths of {protocol} come back by themselves")
    # Nothing is left of it that a failure could take away.
    return devices.attach(connection_info, multipath=multipath, read_only=read_only, root_helper=root_helper)


def find(connection_info: dict[str, Any], *, multipath: bool, root_helper: str) -> dict[str, Any] | None:
    """os-brick's information on the device of a volume that is attached; None where it is not.

    Nothing is connected for iSCSI and NVMe. Other protocols have nothing to look at: attaching what is attached finds
    its device.
    """
    if nvme.is_nvme(connection_info):
        return nvme.find_connected(connection_info)
    if str(connection_info["driver_volume_type"]).lower() in _ISCSI:
        connector = connectors.connector_for(connection_info, multipath=multipath, root_helper=root_helper)
        return _find(connector, connection_info["data"], wait_for_map=False)
    return devices.attach(connection_info, multipath=multipath, read_only=False, root_helper=root_helper)


def _wait_for_nvme(connection_info: dict[str, Any]) -> dict[str, Any] | None:
    deadline = time.monotonic() + _MAP_SECONDS
    while (found := nvme.find_connected(connection_info)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return found


def _is_there(device_path: str, identity: str) -> bool:
    """Whether the kernel has the device, and has not given its name to another volume's."""
    try:
        if not host_tables.device_folder(device_path).is_dir():
            return False
        return not identity or host_tables.device_identity(device_path) == identity
    except OSError:
        return False


def _join(connector: Any, device_path: str, new: list[str]) -> None:
    """Let multipathd add new disks to a map that is there, if they are the same volume's."""
    folder = host_tables.device_folder(device_path)
    name = host_tables.multipath_name(folder)
    if name is None:
        return
    names = {disk: host_tables.scsi_name(host_tables.named_folder(disk)) for disk in new}
    if others := scsi.paths_of_others(name, names):
        raise OtherVolume(f"{', '.join(others)} are not paths of {device_path} ({name}): they lead to another volume")
    present = {path.name for path in host_tables.lower_devices(folder)}
    for disk in new:
        if disk not in present:
            connector.add_to_map(f"/dev/{disk}")


def _join_present(connector: Any, data: dict[str, Any], device_path: str) -> bool:
    """Let multipathd add disks that the kernel has and the map has not: whoever should have told it, as udev, did not,
    or a disk was another volume's when the kernel last asked. A path that the kernel has switched off is out of the map
    until it is known to be the volume's still. Returns whether there were any."""
    folder = host_tables.device_folder(device_path)
    name = host_tables.multipath_name(folder)
    if name is None:
        return False
    present = {path.name for path in host_tables.lower_devices(folder)}
    joined = False
    for disk in connector.disks(data):
        path, disk_folder = f"/dev/{disk}", host_tables.named_folder(disk)
        was_off = host_tables.is_switched_off(disk_folder)
        if was_off and _is_out_of_map(disk_folder, folder):
            scsi.switch(disk_folder, on=True)
        elif disk in present or scsi.is_given_up(path):
            continue
        scsi.rescan(path)
        if scsi.paths_of_others(name, {disk: host_tables.scsi_name(disk_folder)}):
            LOG.warning("%s is not a path of %s (%s): it leads to another volume", disk, device_path, name)
            if was_off:
                scsi.switch(disk_folder, on=False)
            continue
        if scsi.is_given_up(path):
            continue  # the storage still does not answer
        connector.add_to_map(path)
        joined = True
    return joined


def _is_out_of_map(disk_folder: Path, folder: Path) -> bool:
    """Take a disk out of a multipath map, from their folders, unless it is the last one; returns whether it is out."""
    paths = host_tables.lower_devices(folder)
    if disk_folder not in paths:
        return True
    if len(paths) == 1:
        LOG.warning("%s is the only path of %s, and stays switched off", disk_folder.name, folder.name)
        return False
    run("multipathd", "del", "path", f"/dev/{disk_folder.name}")
    deadline = time.monotonic() + _MAP_SECONDS
    while disk_folder in host_tables.lower_devices(folder):
        if time.monotonic() >= deadline:
            LOG.warning("multipathd leaves %s in %s, and it stays switched off", disk_folder.name, folder.name)
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _find(connector: Any, data: dict[str, Any], *, wait_for_map: bool) -> dict[str, Any] | None:
    disks = connector.disks(data)
    if not disks:
        return None
    deadline = time.monotonic() + (_MAP_SECONDS if wait_for_map else 0)
    while (found := multipath_maps.map_over(disks)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    info: dict[str, Any] = {"type": "block", "path": str(Path("/dev", found or disks[0]))}
    wwid = host_tables.multipath_name(host_tables.named_folder(found)) if found else connector.wwid_of(disks)
    return {**info, "scsi_wwn": wwid, **({"multipath_id": wwid} if found else {})}
