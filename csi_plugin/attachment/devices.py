"""Attaching and detaching: os-brick's connectors, and loop devices for volumes that are files."""

import os
import shlex
import socket
import stat
from pathlib import Path
from typing import Any

from csi_plugin.attachment import loop_devices, scsi
from csi_plugin.attachment.commands import run

DEFAULT_SCAN_ATTEMPTS = 3

_PORTAL_SECONDS = 2

_FILE_FORMATS = (None, "raw")


class AttachmentError(Exception):
    """The volume cannot be attached as its connection information says. gRPC: FAILED_PRECONDITION."""


def attach(
    connection_info: dict[str, Any],
    *,
    multipath: bool = False,
    read_only: bool = False,
    root_helper: str = "sudo",
    scan_attempts: int = DEFAULT_SCAN_ATTEMPTS,
) -> dict[str, Any]:
    """Make the volume a block device of this host and return os-brick's device information; ``path`` is the device.

    ``connection_info``: what the Cinder driver answered (``driver_volume_type`` and ``data``). Attaching an attached
    volume gives the same device. Raises AttachmentError, and os-brick's errors.
    """
    _check_format(connection_info)
    device = _connect(connection_info, multipath, root_helper, scan_attempts)
    path = str(device["path"])
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode):
        return {**device, "path": loop_devices.attach(path, read_only=read_only), "file": os.path.realpath(path)}
    if not stat.S_ISBLK(mode):
        raise AttachmentError(f"{path} is neither a block device nor a file")
    helper = [] if os.geteuid() == 0 else shlex.split(root_helper)
    scsi.ask_again(path, root_helper=helper)
    if read_only:
        # The storage's connection is for writing all the same, and mounting read-only alone would replay a journal.
        run(*helper, "blockdev", "--setro", path)
    return device


def detach(
    connection_info: dict[str, Any],
    device: dict[str, Any] | None,
    *,
    multipath: bool = False,
    force: bool = False,
    root_helper: str = "sudo",
) -> None:
    """Flush and remove the block device. Repeatable, also when the device is gone or was never made."""
    local_file = _local_file(connection_info)
    if local_file is not None:
        loop_devices.detach(local_file)
        return
    connector = _connector(connection_info, multipath, root_helper, DEFAULT_SCAN_ATTEMPTS)
    file = device.get("file") if device else _attached_file(connection_info, connector)
    if file:
        loop_devices.detach(file)
    if device is None:
        device = _connected_nvme(connection_info)
    known = {**device, "path": file} if device and file else device
    if known and "conf" in known and not Path(known["conf"]).exists():
        known = {name: value for name, value in known.items() if name != "conf"}  # unmapping needs no keyring
    connector.disconnect_volume(
        connection_info["data"], known, force=force or device is None, ignore_errors=device is None
    )


def extend(
    connection_info: dict[str, Any], device: dict[str, Any], *, multipath: bool = False, root_helper: str = "sudo"
) -> int:
    """Let this host see the volume's new size; returns it in bytes."""
    file = device.get("file")
    if file:
        loop_devices.resize(file)
    else:
        connector = _connector(connection_info, multipath, root_helper, DEFAULT_SCAN_ATTEMPTS)
        connector.extend_volume(connection_info["data"])
    return size_of(device["path"])


def size_of(path: str) -> int:
    """Bytes of a block device."""
    with Path(path).open("rb") as device:
        return device.seek(0, os.SEEK_END)


def paths_of(path: str) -> int:
    """Over how many paths a block device is reached: of a multipath map, all; else one, or none when it is gone."""
    try:
        folder = scsi.sysfs(path)
    except OSError:
        return 0
    if scsi.name_of_map(folder) is None:
        return int(folder.is_dir())
    return len(list((folder / "slaves").iterdir()))


def portals_of(connection_info: dict[str, Any]) -> list[str]:
    """The iSCSI portals that a connection names, a path each; none of another protocol."""
    data = connection_info["data"]
    portals = data.get("target_portals") or [data.get("target_portal")]
    return [str(portal) for portal in portals if portal]


def answering(portals: list[str]) -> int:
    """How many of these accept a connection. A login to one that does not would take iscsid two minutes."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(portals) or 1) as probes:
        return sum(probes.map(_answers, portals))


def _answers(portal: str) -> bool:
    # "address:port" or "[address]:port", and a target portal group may follow.
    address, _, port = portal.partition(",")[0].rpartition(":")
    try:
        socket.create_connection((address.strip("[]"), int(port)), _PORTAL_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def identity_of(path: str) -> str:
    """What tells a block device's content from another's under the same name, which the kernel gives out again.

    World-wide name, device-mapper UUID, backing file or RBD image; otherwise the number, which is good until the next
    boot. Raises OSError when there is no such device.
    """
    folder = scsi.sysfs(path)
    if file := loop_devices.identity(Path(path)):
        return f"loop {file}"
    for attribute in ("wwid", "device/wwid", "dm/uuid"):
        try:
            text = (folder / attribute).read_text().strip()
        except OSError:
            continue
        if text:
            return f"{attribute} {text}"
    if folder.name.startswith("rbd"):
        device = Path("/sys/bus/rbd/devices") / folder.name.removeprefix("rbd")
        return " ".join(
            ["rbd", *((device / part).read_text().strip() for part in ("pool", "image_id", "current_snap"))]
        )
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    number = Path(path).stat().st_rdev
    return f"number {os.major(number)}:{os.minor(number)} of boot {boot}"


def connector_properties(
    *, multipath: bool = False, enforce_multipath: bool = False, my_ip: str | None = None, root_helper: str = "sudo"
) -> dict[str, Any]:
    """os-brick's connector properties of this host: initiator names, addresses, what it can do."""
    prepare_os_brick()
    from os_brick.initiator import connector

    properties: dict[str, Any] = connector.get_connector_properties(
        root_helper, my_ip or _own_address(), multipath, enforce_multipath
    )
    return properties


def _own_address() -> str:
    """The address that this host uses towards others; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: an address for documentation, routed like any other
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _connected_nvme(connection_info: dict[str, Any]) -> dict[str, Any] | None:
    """The device of an NVMe volume that was connected and not recorded: os-brick disconnects only what it is told."""
    if str(connection_info.get("driver_volume_type", "")).lower() not in ("nvme", "nvmeof"):
        return None
    from os_brick.initiator.connectors.nvmeof import NVMeOFConnProps

    found = NVMeOFConnProps(connection_info["data"], find_controllers=True).get_devices()
    return {"type": "block", "path": found[0]} if found else None


def _attached_file(connection_info: dict[str, Any], connector: Any) -> str | None:
    """The file on a share that was attached and not recorded: os-brick knows nothing of its loop device."""
    data = connection_info["data"]
    if data.get("export") and data.get("name") in loop_devices.backing_names():
        return str(connector.get_volume_paths(data)[0])
    return None


def _check_format(connection_info: dict[str, Any]) -> None:
    file_format = connection_info["data"].get("format")
    if file_format not in _FILE_FORMATS:
        raise AttachmentError(f"the volume is a {file_format} file; only raw files can be attached")


def _local_file(connection_info: dict[str, Any]) -> str | None:
    """The file of a volume that is one on this host, for which os-brick has nothing to do."""
    if str(connection_info.get("driver_volume_type", "")).lower() != "local":
        return None
    path = str(connection_info["data"]["device_path"])
    return None if path.startswith("/dev/") else path


def _connect(connection_info: dict[str, Any], multipath: bool, root_helper: str, scan_attempts: int) -> dict[str, Any]:
    file = _local_file(connection_info)
    if file is not None:
        if not Path(file).is_file():
            raise AttachmentError(f"there is no file {file} on this host")
        return {"type": "local", "path": file}
    connector = _connector(connection_info, multipath, root_helper, scan_attempts)
    device: dict[str, Any] = connector.connect_volume(connection_info["data"])
    path = device["path"]
    if isinstance(path, bytes):
        device["path"] = path.decode()
    if not connector.check_valid_device(device["path"]):
        raise AttachmentError(f"the device {device['path']} cannot be read")
    return device


def _connector(connection_info: dict[str, Any], multipath: bool, root_helper: str, scan_attempts: int) -> Any:
    prepare_os_brick()
    from os_brick.initiator import connector

    return connector.InitiatorConnector.factory(
        connection_info["driver_volume_type"],
        root_helper,
        use_multipath=multipath,
        device_scan_attempts=scan_attempts,
        conn=connection_info,
        do_local_attach=True,
    )


def prepare_os_brick() -> None:
    """Privileged code runs in this process when it is root's; a process that set os-brick up already stays as it is.

    In the node's attachment process, oslo.concurrency takes the folder of lock files from OSLO_LOCK_PATH.
    """
    from oslo_service import backend

    if backend.get_backend_type() is None:
        # Before os-brick's libraries look for eventlet. The library, or a service of Cinder's own, has chosen already.
        backend.init_backend(backend.BackendType.THREADING)
    import os_brick
    import os_brick.privileged
    from oslo_concurrency import lockutils  # noqa: F401 - it defines the option that os-brick's is set from
    from oslo_config import cfg

    if os.geteuid() == 0:
        os_brick.privileged.default.set_client_mode(False)
        os_brick.privileged.brick_privsep_hide_output.set_client_mode(False)
    if not cfg.CONF.os_brick.lock_path:
        os_brick.setup(cfg.CONF)
