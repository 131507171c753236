"""Files as block devices: one loop device for each backing file."""

import contextlib
import fcntl
import os
import struct
import time
from pathlib import Path

from csi_plugin.attachment.commands import CommandFailed, run

_SYSFS = Path("/sys/block")
_DETACH_SECONDS = 10.0
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_DIRECT_IO = 0x4C08
_LOOP_INFO64 = struct.Struct("=QQ216x")  # linux/loop.h: lo_device and lo_inode come first


def attach(path: str, *, read_only: bool = False) -> str:
    """The loop device of a file, made unless there is one. Raises CommandFailed.

    Direct I/O is used where the filesystem below can, so that data is not cached twice.
    """
    existing = find(path)
    if existing:
        return existing
    options = ["--read-only"] if read_only else []
    device = run("losetup", "--find", "--show", "--nooverlap", *options, path).strip()
    with contextlib.suppress(OSError):
        descriptor = os.open(device, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _LOOP_SET_DIRECT_IO, 1)
        finally:
            os.close(descriptor)
    return device


def find(path: str) -> str | None:
    """The loop device that the file backs, if any."""
    wanted = Path(os.path.realpath(path))
    devices = backing_names().get(wanted.name, [])
    return next((str(device) for device in devices if is_backed_by(device, wanted)), None)


def backing_names() -> dict[str, list[Path]]:
    """Loop devices by the name, without directory, of the file that backs them.

    The directory that the kernel tells is the one of the mount namespace in which the device was made, and changes when
    that ends, as it does with every container.
    """
    found: dict[str, list[Path]] = {}
    for attribute in _SYSFS.glob("loop*/loop/backing_file"):
        try:
            backing = attribute.read_text().rstrip("\n")
        except OSError:  # detached in the meantime
            continue
        found.setdefault(backing.rpartition("/")[2], []).append(Path("/dev") / attribute.parts[3])
    return found


def is_backed_by(device: Path, path: Path) -> bool | None:
    """Whether the file backs the device; None when there is no access to the device.

    Opening a device disturbs its owner's detach: ask only of devices that backing_names() gives for the file.
    """
    try:
        backing = _backing(device)
    except (FileNotFoundError, PermissionError):
        return None
    except OSError:  # ENXIO: detached in the meantime
        return False
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return backing == (status.st_dev, status.st_ino)


def identity(device: Path) -> str | None:
    """What tells the file behind a loop device from others, in every mount namespace; None for other devices."""
    try:
        name = (_SYSFS / device.name / "loop/backing_file").read_text().rstrip("\n").rpartition("/")[2]
        filesystem, inode = _backing(device)
    except OSError:
        return None
    return f"{name} {filesystem}:{inode}"


def _backing(device: Path) -> tuple[int, int]:
    """Device number of the filesystem, and inode number, of the file behind a loop device. Raises OSError."""
    descriptor = os.open(device, os.O_RDONLY)
    try:
        answer = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64.size))
    finally:
        os.close(descriptor)
    filesystem, inode = _LOOP_INFO64.unpack(answer)
    return filesystem, inode


def detach(path: str) -> None:
    """Flush and remove the loop device of a file. Does nothing when there is none."""
    device = find(path)
    if device is None:
        return
    run("blockdev", "--flushbufs", device)
    run("losetup", "--detach", device)
    # The kernel detaches it when the last one closes it, which udev, say, does in its own time, and tells nobody.
    deadline = time.monotonic() + _DETACH_SECONDS
    while find(path) == device:
        if time.monotonic() > deadline:
            raise CommandFailed(["losetup"], 1, f"{device} is still in use")
        time.sleep(0.02)


def resize(path: str) -> None:
    """Let the loop device of a file see the file's new size."""
    device = find(path)
    if device:
        run("losetup", "--set-capacity", device)
