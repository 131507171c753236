"""Attaching and detaching a volume: os-brick's connectors, and loop devices for volumes that are files."""

import logging
import os
import shlex
import stat
from pathlib import Path
from typing import Any

from csi_plugin.attachment import (
    connection_rules,
    connectors,
    device_use,
    fibre_channel,
    files,
    holders,
    host_tables,
    loop_devices,
    map_paths,
    nvme,
    nvme_paths,
    rbd,
    scsi,
    shares,
)
from csi_plugin.attachment import multipath as multipath_maps
from csi_plugin.attachment.connectors import DEFAULT_SCAN_ATTEMPTS
from csi_plugin.attachment.errors import AttachmentError, OtherVolume
from csi_plugin.attachment.programs import run

LOG = logging.getLogger(__name__)


def attach(
    connection_info: dict[str, Any],
    *,
    multipath: bool = False,
    read_only: bool = False,
    root_helper: str = "sudo",
    scan_attempts: int = DEFAULT_SCAN_ATTEMPTS,
) -> dict[str, Any]:
    """Make the volume a block device of this host and return os-brick's device information; its ``path`` is the device.

    ``connection_info``: what the Cinder driver returned (``driver_volume_type`` and ``data``). Attaching an attached
    volume gives the same device. Raises AttachmentError, ProgramFailed, and os-brick's errors.
    """
    connection_rules.check(connection_info)
    files.check_format(connection_info)
    if "export" in connection_info["data"]:
        connector = connectors.connector_for(connection_info, multipath=multipath, root_helper=root_helper)
        with shares.mounted(connection_info, connector) as folder:
            if folder is not None:
                connector.connect_volume(connection_info["data"])
                shares.restrict(folder)
                return files.attach(folder, str(connection_info["data"]["name"]), read_only=read_only)
    file = files.local_file(connection_info)
    if file is not None:
        files.check_local(file)
        return files.attach(Path(file).parent, Path(file).name, read_only=read_only)
    device_info = _connect(connection_info, multipath, root_helper, scan_attempts)
    path = str(device_info["path"])
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode):
        files.check_local(path)
        return files.attach(Path(path).parent, Path(path).name, read_only=read_only)
    if not stat.S_ISBLK(mode):
        raise AttachmentError(f"{path} is neither a block device nor a file")
    if not os.path.realpath(path).startswith("/dev/"):
        raise AttachmentError(f"{path} is a block device that is not in /dev")
    helper = [] if os.geteuid() == 0 else shlex.split(root_helper)
    scsi.rescan(path, root_helper=helper)
    if read_only:
        # The storage's connection is for writing all the same, and mounting read-only alone would replay a journal.
        run(*helper, "blockdev", "--setro", path)
    elif host_tables.is_write_protected(path):
        # As attaching for readers has left a device that stays; what the storage protects stays protected.
        run(*helper, "blockdev", "--setrw", path)
    return device_info


def expected_paths(
    connection_info: dict[str, Any], device_path: str, *, multipath: bool = False, root_helper: str = "sudo"
) -> int:
    """Over how many paths an attached volume should be reached: one, unless its device is a multipath map."""
    present = host_tables.path_count(device_path)
    if not multipath or not host_tables.is_over_paths(device_path):
        return present
    if nvme.is_nvme(connection_info):
        return max(present, len(nvme.portals(connection_info["data"])))
    connector = connectors.connector_for(connection_info, multipath=multipath, root_helper=root_helper)
    named = len(connector.own_targets(connection_info["data"])) if hasattr(connector, "own_targets") else 0
    return max(present, named)


def detach(
    connection_info: dict[str, Any],
    device_info: dict[str, Any] | None,
    *,
    multipath: bool = False,
    force: bool = False,
    root_helper: str = "sudo",
    identity: str = "",
) -> None:
    """Flush and remove the block device. Repeatable, also when the device is gone or was never there.

    ``device_info``: what attach returned, None where that was lost; ``identity``: what the device was, if that is
    known: one that is another volume's by now is left alone. Raises ProgramFailed and os-brick's errors.
    """
    local_file = files.local_file(connection_info)
    if local_file is not None:
        loop_devices.detach(local_file, device=_own_loop(device_info, identity))
        return
    over_map = multipath or (fibre_channel.is_fibre_channel(connection_info) and _is_over_map(device_info))
    connector = connectors.connector_for(connection_info, multipath=over_map, root_helper=root_helper)
    file = device_info.get("file") if device_info else files.find_attached(connection_info, connector)
    if file:
        loop_devices.detach(file, device=_own_loop(device_info, identity))
        shares.leave(connection_info, connector)
    elif others := _devices_of_others(connection_info, connector, device_info, identity):
        was = identity or "never seen to be attached"
        LOG.warning("%s: another volume's by now, and left alone; this one was %s", ", ".join(others), was)
        return
    found = device_info if device_info is not None else nvme.find_connected(connection_info)
    if found and file:
        found = {**found, "path": file}
    if found:
        found = rbd.without_lost_conf(found)
    if found and nvme.is_nvme(connection_info):
        found = nvme_paths.without_map(connection_info, found, identity=identity)
    connector.disconnect_volume(
        connection_info["data"], found, force=force or found is None, ignore_errors=found is None
    )


def _own_loop(device_info: dict[str, Any] | None, identity: str) -> str | None:
    """The volume's loop device as it was recorded, if it still is that: its file may be gone from its place."""
    path = str(device_info["path"]) if device_info else ""
    try:
        is_own = identity.startswith("loop ") and host_tables.device_identity(path) == identity
    except OSError:
        return None
    return path if is_own else None


def _is_over_map(device_info: dict[str, Any] | None) -> bool:
    return device_info is not None and host_tables.is_map(str(device_info["path"]))


def _devices_of_others(
    connection_info: dict[str, Any], connector: Any, device_info: dict[str, Any] | None, identity: str
) -> list[str]:
    """Which of the devices that disconnecting would take away are not what the volume's device was. Where that was not
    recorded, as by an attach that was cut off: those that somebody uses, which nobody does of such a volume."""
    if not identity:
        disks = _disks(connection_info, connector) if device_info is None else []
        return sorted(disks) if _are_in_use(disks) else []
    folders = {disk: host_tables.named_folder(disk) for disk in _disks(connection_info, connector)}
    if nvme.is_nvme(connection_info):
        names = {disk: host_tables.nvme_name(folder) for disk, folder in folders.items()}
        if others := nvme.disks_of_others(identity, names):
            return others
    elif hasattr(connector, "disks"):
        return scsi.disks_of_others(identity, {disk: host_tables.scsi_name(folder) for disk, folder in folders.items()})
    path = str(device_info["path"]) if device_info else ""
    try:
        found = host_tables.device_identity(path) if path else identity
    except OSError:
        return []  # it is gone
    return [path] if host_tables.is_lasting(identity) and found != identity else []


def _disks(connection_info: dict[str, Any], connector: Any) -> list[str]:
    """The kernel's names of the disks that are where the volume is; none of protocols that have no such thing."""
    return list(connector.disks(connection_info["data"])) if hasattr(connector, "disks") else []


def _are_in_use(disks: list[str]) -> bool:
    """Whether somebody uses disks, or a map over them. What the host has built on them by itself, and nobody uses, is
    deactivated."""
    if not disks or not device_use.is_in_use([host_tables.named_folder(disk) for disk in disks]):
        return False
    over = multipath_maps.map_over(disks)
    paths = [f"/dev/{name}" for name in ([over] if over else disks)]
    if any(holders.blockers(path) for path in paths):
        return True
    for path in paths:
        holders.release(path)
    return device_use.is_in_use([host_tables.named_folder(disk) for disk in disks])


def extend(
    connection_info: dict[str, Any], device_info: dict[str, Any], *, multipath: bool = False, root_helper: str = "sudo"
) -> int:
    """Let this host see the volume's new size; returns it in bytes. Raises ProgramFailed and os-brick's errors."""
    file = device_info.get("file")
    if file:
        loop_devices.resize(file)
    else:
        over_map = multipath or _is_over_map(device_info)
        connector = connectors.connector_for(connection_info, multipath=over_map, root_helper=root_helper)
        connector.extend_volume(connection_info["data"])
        if nvme.is_nvme(connection_info) and _is_over_map(device_info):
            nvme_paths.grow_map(str(device_info["path"]), root_helper=root_helper)
    return host_tables.device_size(device_info["path"])


def _connect(connection_info: dict[str, Any], multipath: bool, root_helper: str, scan_attempts: int) -> dict[str, Any]:
    """os-brick's device information."""
    connector = connectors.connector_for(
        connection_info, multipath=multipath, root_helper=root_helper, scan_attempts=scan_attempts
    )
    device_info: dict[str, Any] = connector.connect_volume(connection_info["data"])
    path = device_info["path"]
    if isinstance(path, bytes):
        device_info["path"] = path.decode()
    if nvme.is_nvme(connection_info) and multipath:
        nvme_paths.connect_others(connection_info["data"], str(device_info["path"]), root_helper=root_helper)
    _take_map(device_info)
    _check_paths(connection_info, connector, str(device_info["path"]))
    if not connector.check_valid_device(device_info["path"]):
        raise AttachmentError(f"the device {device_info['path']} cannot be read")
    return device_info


def _check_paths(connection_info: dict[str, Any], connector: Any, path: str) -> None:
    """Raises OtherVolume where a multipath map has paths that are not the volume's: storages that give two volumes one
    name make multipathd join them, and what is written to one goes to the other.

    The volume's own paths are taken out of the map at once: it may be the other volume's, which is in use.
    """
    if not host_tables.is_map(path):
        return
    folder = host_tables.device_folder(path)
    if foreign := map_paths.foreign(connection_info, connector, folder):
        map_paths.release(connection_info, connector, folder)
        raise OtherVolume(
            f"{path} is the multipath map {host_tables.multipath_name(folder)}, and its paths {', '.join(foreign)} are "
            "not of this volume's targets: two volumes have one name (WWID), or this host reaches the volume over a "
            "portal or port that the backend does not name. Give each volume a name of its own on the storage; log out "
            "there, or take that port out of the zone"
        )


def _take_map(device_info: dict[str, Any]) -> None:
    """Use the multipath map that the host has made over a disk, as multipathd does where find_multipaths is off, and of
    NVMe where the kernel's own multipath is: the disk itself is busy then."""
    path = str(device_info["path"])
    if "multipath_id" in device_info or not Path(path).is_block_device():
        return
    disk = host_tables.device_folder(path)
    if (found := multipath_maps.map_over([disk.name])) is not None:
        name = host_tables.multipath_name(host_tables.named_folder(found))
        LOG.warning("multipathd has %s over %s, and it is used (multipath.conf: find_multipaths)", found, disk.name)
        device_info |= {"path": f"/dev/{found}", "multipath_id": name}
