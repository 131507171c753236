"""Shares on which volumes are files, mounted by os-brick: given up when they went stale, and when nobody needs them."""

import contextlib
import ctypes
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csi_plugin.attachment import brick_runtime, host_tables
from csi_plugin.attachment.errors import AttachmentError
from csi_plugin.attachment.programs import ProgramFailed, ProgramStuck, run

LOG = logging.getLogger(__name__)

_STALE = "Stale file handle"
_SECONDS = 20
_MARKS = "shares"
# Kernel's include/uapi/linux/mount.h. A remount of the mount point alone, whatever program has mounted the share.
_MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND = 0x2, 0x4, 0x20, 0x1000
_KEPT_FLAGS = {"ro": 0x1, "noexec": 0x8, "noatime": 0x400, "nodiratime": 0x800, "relatime": 0x200000}


@contextlib.contextmanager
def mounted(connection_info: dict[str, Any], connector: Any) -> Iterator[Path | None]:
    """A block that mounts a volume's share, if it is on one, and takes its file into use; with the share's folder.

    A mount that went stale, as after the export was made anew, is given up before. Raises AttachmentError for a share
    that does not answer.
    """
    folder = _folder(connection_info, connector)
    if folder is None:
        yield None
        return
    with brick_runtime.alone_on_share(folder):
        if _is_mounted(folder) and _is_stale(folder):
            _give_up(folder)
        if not _is_mounted(folder):
            mark = _mark(folder)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        yield folder


def restrict(folder: Path) -> None:
    """Let nothing on a mounted share be a device, or run with its owner's rights. Raises AttachmentError."""
    mount = next((mount for mount in reversed(host_tables.mounts()) if mount.target == str(folder)), None)
    if mount is None or mount.options >= {"nodev", "nosuid"}:
        return
    flags = _MS_REMOUNT | _MS_BIND | _MS_NODEV | _MS_NOSUID
    for name, flag in _KEPT_FLAGS.items():
        flags |= flag if name in mount.options else 0
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(None, os.fsencode(folder), None, ctypes.c_ulong(flags), None):
        reason = os.strerror(ctypes.get_errno())
        raise AttachmentError(f"the share at {folder} cannot be mounted nodev and nosuid: {reason}")


def leave(connection_info: dict[str, Any], connector: Any) -> None:
    """Unmount the volume's share if it was mounted for volumes, and no other one is in use any more."""
    folder = _folder(connection_info, connector)
    if folder is None:
        return
    with brick_runtime.alone_on_share(folder):
        mark = _mark(folder)
        if not mark.exists() or not _is_mounted(folder) or _files_in_use(folder):
            return
        try:
            run("umount", "--", str(folder), timeout=_SECONDS)
        except ProgramFailed as error:
            LOG.warning("the share at %s stays mounted: %s", folder, error)
        else:
            mark.unlink(missing_ok=True)


def _folder(connection_info: dict[str, Any], connector: Any) -> Path | None:
    """Where os-brick mounts the volume's share."""
    export = connection_info["data"].get("export")
    client = getattr(connector, "_remotefsclient", None)
    return Path(client.get_mount_point(export)) if export and client is not None else None


def _mark(folder: Path) -> Path:
    """A file that says that a share was mounted here: what others have mounted, such as a driver, is theirs."""
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
    return Path(brick_runtime.locks_folder(), _MARKS, name)


def _is_mounted(folder: Path) -> bool:
    return bool(host_tables.mounts(target=str(folder)))


def _is_stale(folder: Path) -> bool:
    try:
        run("stat", "--", str(folder), timeout=_SECONDS)
    except ProgramStuck as error:
        raise AttachmentError(f"the share at {folder} does not answer: {error}") from error
    except ProgramFailed as error:
        if error.status is None:
            raise AttachmentError(f"the share at {folder} does not answer within {_SECONDS} s") from error
        return _STALE in error.output
    return False


def _give_up(folder: Path) -> None:
    if files := _files_in_use(folder):
        raise AttachmentError(
            f"the share at {folder} has gone stale, and {', '.join(files)} of it are in use; end the pods with these "
            "volumes on this node, and it is mounted anew"
        )
    LOG.warning("the share at %s has gone stale, and is mounted anew", folder)
    run("umount", "--lazy", "--", str(folder), timeout=_SECONDS)


def _files_in_use(folder: Path) -> list[str]:
    """Names of files on a mounted share that loop devices show: by the number of its filesystem, asked of no server."""
    numbers = {os.makedev(*mount.device_number) for mount in host_tables.mounts(target=str(folder))}
    return sorted(
        name
        for name, devices in host_tables.loop_devices_by_file_name().items()
        for device in devices
        if host_tables.backing_filesystem(device) in numbers
    )
