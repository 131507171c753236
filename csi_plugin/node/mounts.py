"""Mounts of this node: whose they are, mounting and unmounting."""

import ctypes
import os
from collections.abc import Sequence

from csi_plugin.attachment import device_use, host_tables
from csi_plugin.attachment.host_tables import Mount
from csi_plugin.attachment.programs import ProgramFailed, ProgramStuck, run
from csi_plugin.node import ext_superblock, target_paths
from csi_plugin.node.filesystem_features import EXT

_MS_BIND = 4096
"""mount(2)."""


def at(target: str) -> Mount | None:
    """What is mounted at a path (the topmost, when several are), if anything."""
    # A link is no mount point: what is behind it is not at this path.
    found = host_tables.mounts(target=target_paths.resolve_parent(target))
    return found[-1] if found else None


def of_device(device_path: str) -> list[Mount]:
    """Mounts of the filesystem on a block device, and bind mounts of the device's node. Raises OSError."""
    return device_use.mounts_of({host_tables.device_number(device_path)})


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
    return number in device_use.device_numbers(mount)


def shown_device(mount: Mount) -> str:
    """The block device that a mount shows, as volumes do: its filesystem's, or the one whose node is mounted; empty for
    other mounts."""
    if mount.source.startswith("/dev/"):
        return mount.source
    number = device_use.node_number(mount)
    return host_tables.device_of_number(number) if number is not None else ""


def with_needed_options(device_path: str, filesystem: str, flags: Sequence[str], *, read_only: bool) -> list[str]:
    """mount's options for a device: the CO's flags, but for those that say whether it is read-only, and what has to be
    added. Raises ProgramFailed for one that cannot be read."""
    # Of dev and nodev, or suid and nosuid, the last counts: a class may say otherwise.
    options = ["nodev", "nosuid", *(flag for flag in flags if flag not in ("ro", "rw"))]
    if filesystem == "xfs" and "nouuid" not in options:
        options.append("nouuid")  # a copy of an xfs that is mounted here has the same UUID
    if filesystem in EXT and not any(flag.startswith("errors=") for flag in flags):
        options.append(ext_superblock.errors_option(device_path))
    return [*options, "ro"] if read_only else options


def mount(source: str, target: str, *, filesystem: str, options: Sequence[str]) -> None:
    """Mount a device. Raises ProgramFailed."""
    arguments = ["-o", ",".join(options)] if options else []
    run("mount", "-t", filesystem, *arguments, "--", source, target)


def can_mount(source: str, target: str, *, filesystem: str, options: Sequence[str]) -> bool:
    """Whether a device can be mounted so: tried in a mount namespace that ends with the try, whatever happens.
    Raises ProgramStuck."""
    command = ("unshare", "--mount", "--propagation", "private", "mount", "--no-mtab")
    try:
        run(*command, "-t", filesystem, "-o", ",".join(options), "--", source, target)
    except ProgramStuck:
        raise
    except ProgramFailed:
        return False
    return True


def bind(source: str, target: str, descriptor: int, *, read_only: bool) -> None:
    """Show a folder or file at another path too: that of a descriptor, which no link can lead elsewhere.

    Raises OSError or ProgramFailed; nothing is mounted then.
    """
    # mount(8) takes only paths, and looks them up by itself.
    libc = ctypes.CDLL(None, use_errno=True)
    place = f"/proc/self/fd/{descriptor}".encode()
    if libc.mount(os.fsencode(source), place, None, ctypes.c_ulong(_MS_BIND), None):
        number = ctypes.get_errno()
        raise OSError(number, f"mounting {source} at {target}: {os.strerror(number)}")
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


def unmount_lost(target: str) -> Mount | None:
    """Unmount at a path what shows a device that is no more; returns what is mounted there then."""
    while (mounted := at(target)) is not None and device_use.has_lost_its_device(mounted):
        unmount_topmost(target)
    return mounted


def unmount_device(target: str, device_path: str) -> bool:
    """Unmount at a target what shows a device's filesystem or node, or those of a device that is no more; another mount
    there stays. Returns whether anything was unmounted. Raises ProgramFailed."""
    any_unmounted = False
    while (mounted := at(target)) is not None:
        if not (is_of(mounted, device_path) or device_use.has_lost_its_device(mounted)):
            break
        unmount_topmost(target)
        any_unmounted = True
    return any_unmounted
