"""Paths to NVMe volumes: portals that are connected, and multipathd's maps where the kernel's own multipath is off.

os-brick has one device then, over one portal, and knows nothing of maps.
"""

import logging
import os
import shlex
import time
from pathlib import Path
from typing import Any

from csi_plugin.attachment import brick_runtime, host_tables, iscsi, nvme, path_states
from csi_plugin.attachment import multipath as multipath_maps
from csi_plugin.attachment.errors import AttachmentError, OtherVolume
from csi_plugin.attachment.programs import ProgramFailed, run

LOG = logging.getLogger(__name__)

_SECONDS = 10.0
"""For the kernel to show what was connected, and for multipathd to make a map of it."""
_POLL_SECONDS = 0.2
_DELETION_SECONDS = 60


def connect_others(data: dict[str, Any], device_path: str, *, root_helper: str) -> None:
    """Where multipathd is to make a map of a volume that was connected over one portal: connect the others, too.

    Does nothing where the kernel has a multipath of its own. Portals that cannot be had are for healing.
    """
    folder = host_tables.device_folder(device_path)
    if host_tables.is_nvme_head(folder) or len(nvme.portals(data)) < 2 or not multipath_maps.is_running():
        return
    try:
        connect_missing(data, root_helper=root_helper)
    except AttachmentError as error:
        LOG.warning("%s is connected over one portal for now: %s", device_path, error)
    deadline = time.monotonic() + _SECONDS
    while multipath_maps.map_over([folder.name]) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def reachable(data: dict[str, Any]) -> dict[str, Any]:
    """A connection, which is changed, with the portals that can be connected now; the others are for healing.

    Raises AttachmentError where there are none.
    """
    answering = _answering([portal for target in nvme.targets(data) for portal in nvme.portals_of(target)])
    left_out = []
    for target in nvme.targets(data):
        portals = nvme.portals_of(target)
        left_out += [str(portal) for portal in portals if portal not in answering]
        if "portals" in target:
            target["portals"] = [
                named for named, portal in zip(target["portals"], portals, strict=True) if portal in answering
            ]
    if left_out and not answering:
        raise AttachmentError(
            f"no portal of the storage answers this node ({', '.join(left_out)}): look at the network to them"
        )
    if left_out:
        LOG.warning("the portals %s do not answer, and are left out for now", ", ".join(left_out))
    return data


def _answering(portals: list[nvme.Portal]) -> set[nvme.Portal]:
    """Those that this host has, or that accept a connection; all that are not over TCP, where nobody can tell."""
    connected = nvme.connected_portals()
    addresses = {
        portal: f"[{portal.address}]:{portal.port}"
        for portal in portals
        if portal.transport == "tcp" and portal not in connected
    }
    found = iscsi.reachable_portals(list(addresses.values()))
    return {portal for portal in portals if portal not in addresses or addresses[portal] in found}


def connect_missing(data: dict[str, Any], *, root_helper: str) -> None:
    """Connect the portals that this host has no controller for; the others are left alone.

    Raises AttachmentError where none can be had.
    """
    named = nvme.portals(data)
    with brick_runtime.alone_on_host():
        connected = nvme.connected_portals()
        missing = [portal for portal in named if portal not in connected]
        if not missing:
            raise AttachmentError("its controllers are there, or come back by themselves")
        answering = _answering(missing)
        to_connect = [portal for portal in missing if portal in answering]
        if not to_connect:
            raise AttachmentError(f"{len(named) - len(missing)} of {len(named)} portals can be reached")
        host = ["-q", str(data["host_nqn"])] if data.get("host_nqn") else []
        failures = []
        for portal in to_connect:
            where = ["-a", portal.address, "-s", portal.port, "-t", portal.transport, "-n", portal.subsystem]
            try:
                # As os-brick does: a controller that is lost is tried for as long as it takes.
                run(*_helper(root_helper), "nvme", "connect", *where, "-Q", "128", "-l", "-1", *host)
            except ProgramFailed as error:
                failures.append(f"{portal}: {error}")
    if len(failures) == len(to_connect):
        raise AttachmentError("; ".join(failures))


def waiting_controllers(device_path: str) -> list[str]:
    """Names of an NVMe volume's controllers, where the kernel keeps I/O since none of them is live, or has a path to it
    that the storage lets I/O take.

    None where others share them. Raises OSError for a device that is gone.
    """
    device = host_tables.device_folder(device_path)
    is_head = host_tables.is_nvme_head(device)
    # Without the kernel's own multipath, a device is its one controller's.
    if not is_head and not nvme.is_remote_controller(device.parent):
        return []
    if any((other / "dev").is_file() for other in device.parent.glob("nvme*n*") if other != device):
        return []
    if not is_head:
        controllers = {device.parent: [device]}
    else:
        controllers = {file.parent: [] for file in device.parent.glob("nvme*/state")}
        for path in host_tables.nvme_paths(device):
            controllers.setdefault(path.parent, []).append(path)
    for controller, paths in controllers.items():
        if all(path_states.is_usable(path, controller=controller) for path in paths or [controller]):
            return []
    return sorted(controller.name for controller in controllers)


def delete_controllers(names: list[str]) -> None:
    """Delete controllers, with the devices that have no others: what waits for them fails. Raises ProgramFailed."""
    for name in names:
        run("nvme", "disconnect", "--device", name, timeout=_DELETION_SECONDS)


def join(connection_info: dict[str, Any], device_path: str, *, root_helper: str) -> None:
    """Let multipathd add the disks of new controllers to the map that is over the volume.

    Does nothing without a map. Raises OtherVolume for disks that are not the volume's.
    """
    if not host_tables.is_map(device_path):
        return
    deadline = time.monotonic() + _SECONDS
    while not join_present(connection_info, device_path, root_helper=root_helper):
        if time.monotonic() >= deadline:
            raise AttachmentError("what was connected shows no disk of this volume")
        time.sleep(_POLL_SECONDS)


def join_present(connection_info: dict[str, Any], device_path: str, *, root_helper: str) -> bool:
    """Let multipathd add the disks that the kernel has and the map that is over the volume has not; returns whether
    there were any. Raises OtherVolume for disks that are not the volume's."""
    folder = host_tables.device_folder(device_path)
    if host_tables.multipath_name(folder) is None:
        return False
    present = host_tables.lower_devices(folder)
    new = [path for path in _disks(connection_info) if path not in present]
    names = {host_tables.nvme_name(path) for path in present}
    if others := [path.name for path in new if host_tables.nvme_name(path) not in names]:
        raise OtherVolume(f"{', '.join(others)} are not paths of {device_path}: they lead to another volume")
    for path in new:
        run(*_helper(root_helper), "multipathd", "add", "path", f"/dev/{path.name}")
    return bool(new)


def foreign_paths(connection_info: dict[str, Any], folder: Path) -> list[str]:
    """The paths of a multipath map, from its folder, that are no disk of the volume's own controllers."""
    own = _disks(connection_info)
    return [path.name for path in host_tables.lower_devices(folder) if path not in own]


def without_map(connection_info: dict[str, Any], device_info: dict[str, Any], *, identity: str) -> dict[str, Any]:
    """Device information of a path, after the map over the volume's paths is removed, also by an earlier attempt.

    ``identity``: of the map; disks that have another name are another volume's by now. Raises ProgramFailed.
    """
    path = str(device_info["path"])
    if host_tables.is_map(path):
        paths = host_tables.lower_devices(host_tables.device_folder(path))
        multipath_maps.remove(path)
    elif "multipath_id" in device_info and not Path(path).exists():
        paths = [disk for disk in _disks(connection_info) if identity == f"dm/uuid mpath-{host_tables.nvme_name(disk)}"]
    else:
        return device_info
    return {**device_info, "path": f"/dev/{paths[0].name}"} if paths else device_info


def grow_map(device_path: str, *, root_helper: str) -> None:
    """Let a map have the new size of its paths, of which os-brick has looked at one. Raises ProgramFailed."""
    paths = host_tables.lower_devices(host_tables.device_folder(device_path))
    for path in paths:
        run(*_helper(root_helper), "tee", str(path / "device/rescan_controller"), stdin=b"1")
    deadline = time.monotonic() + _SECONDS
    while len({host_tables.size_of(path) for path in paths}) > 1 and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    multipath_maps.resize(device_path)


def _helper(root_helper: str) -> list[str]:
    return [] if os.geteuid() == 0 else shlex.split(root_helper)


def _disks(connection_info: dict[str, Any]) -> list[Path]:
    return [host_tables.device_folder(path) for path in nvme.connected_devices(connection_info) if Path(path).exists()]
