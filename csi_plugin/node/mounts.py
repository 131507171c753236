"""Mounts of this node: whose they are, mounting and unmounting."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from csi_plugin.attachment import host_tables
from csi_plugin.attachment.host_tables import DeviceNumber, Mount
from csi_plugin.attachment.programs import run

_HOLD_DEVICE_NODES = ("devtmpfs", "tmpfs")


def at(target: str) -> Mount | None:
    """What is mounted at a path (the topmost, when several are), if anything."""
    wanted = os.path.realpath(target)
    found = [mount for mount in host_tables.mounts() if mount.target == wanted]
    return found[-1] if found else None


def of_device(device_path: str) -> list[Mount]:
    """Mounts of the filesystem on a block device, and bind mounts of the device's node. Raises OSError."""
    number = host_tables.device_number(device_path)
    return [mount for mount in host_tables.mounts() if mount.device_number == number or _node_number(mount) == number]


def is_of(mount: Mount, device_path: str) -> bool:
    """Whether a mount shows the filesystem on a block device, or the device's node itself."""
    if not device_path:
        return False
    if mount.source == device_path:
        return True  # also when the device is gone: a mount outlives it
    try:
        number = host_tables.device_number(device_path)
    except OSError:
        return False
    return mount.device_number == number or _node_number(mount) == number


def is_of_some_device(mount: Mount) -> bool:
    """Whether a mount shows the filesystem on a block device, or a device's node, as volumes do."""
    return mount.source.startswith("/dev/") or _node_number(mount) is not None


def _node_number(mount: Mount) -> DeviceNumber | None:
    """The number of the block device whose node is mounted; None for other mounts."""
    if mount.filesystem not in _HOLD_DEVICE_NODES or mount.root == "/":
        return None
    try:
        is_block = stat.S_ISBLK(Path(mount.target).stat().st_mode)
        return host_tables.device_number(mount.target) if is_block else None
    except OSError:
        return None


def mount(source: str, target: str, *, filesystem: str, options: Sequence[str]) -> None:
    """Mount a device. Raises ProgramFailed."""
    arguments = ["-o", ",".join(options)] if options else []
    run("mount", "-t", filesystem, *arguments, "--", source, target)


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Show a folder or file at another path too. Raises ProgramFailed; nothing is mounted then."""
    run("mount", "--bind", "--", source, target)
    if read_only:
        try:
            make_read_only(target)
        except Exception:
            unmount(target)
            raise


def make_read_only(target: str) -> None:
    """Forbid writing through a bind mount; others of the filesystem stay as they are. Raises ProgramFailed."""
    run("mount", "-o", "remount,bind,ro", "--", target)


def unmount(target: str) -> None:
    """Unmount everything at a path; does nothing when nothing is mounted there. Raises ProgramFailed."""
    while at(target) is not None:
        unmount_topmost(target)


def unmount_topmost(target: str) -> None:
    """Unmount what is mounted at a path, but not what is below it. Raises ProgramFailed."""
    run("umount", "--", target)


def unmount_device(target: str, device_path: str) -> None:
    """Unmount at a target what shows a device's filesystem or node, or those of a device that is no more; another mount
    there stays. Raises ProgramFailed."""
    while (mounted := at(target)) is not None and (is_of(mounted, device_path) or _has_lost_its_device(mounted)):
        unmount_topmost(target)


def _has_lost_its_device(mount: Mount) -> bool:
    number = _node_number(mount) or mount.device_number
    return number[0] != 0 and not host_tables.is_known_device(number)
