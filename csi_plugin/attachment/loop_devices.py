"""Files as block devices: one loop device for each backing file."""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from csi_plugin.attachment import device_use, host_tables
from csi_plugin.attachment.programs import ProgramFailed, run

_DETACH_SECONDS = 10.0
_ATTEMPTS = 64
_CONTROL = "/dev/loop-control"
# Kernel's include/uapi/linux/loop.h.
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_SET_FD = 0x4C00
_LOOP_SET_DIRECT_IO = 0x4C08
# Kernel's include/uapi/linux/fs.h; it reads a number.
_BLKROSET = 0x125D
_WRITABLE = bytes(4)


def attach(descriptor: int, name: str, *, read_only: bool = False) -> str:
    """The loop device of an open file, set up unless there is one. ``name``: the file's. Raises OSError.

    It is the file that was opened, whatever its path leads to by now. Direct I/O is used where the filesystem below
    can, so that data is not cached twice.
    """
    status = os.fstat(descriptor)
    existing = _backed_by(name, (status.st_dev, status.st_ino))
    if existing and (read_only or not _is_of_readers(existing)):
        return existing
    if existing:
        _take_away(existing, host_tables.backing_inode(Path(existing)))
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            if _set_up(device, descriptor, read_only=read_only):
                return device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "others take every free loop device", _CONTROL)


def find(file: str) -> str | None:
    """The loop device that the file backs, if any. A link in the file's place backs none."""
    path = Path(file).parent.resolve() / Path(file).name
    try:
        status = path.lstat()
    except OSError:
        return None
    return _backed_by(path.name, (status.st_dev, status.st_ino))


def _backed_by(name: str, identity: tuple[int, int]) -> str | None:
    """``identity``: the numbers of the file's filesystem and of its inode."""
    devices = host_tables.loop_devices_by_file_name().get(name, [])
    return next((str(device) for device in devices if host_tables.backing_inode(device) == identity), None)


def _is_of_readers(device: str) -> bool:
    """Whether a loop device can't be written to and is nobody's, as left by an attach for readers that was cut off."""
    return host_tables.is_write_protected(device) and not device_use.is_held(device)


def _set_up(device: str, descriptor: int, *, read_only: bool) -> bool:
    """False where another process was faster."""
    loop_device = os.open(device, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    try:
        fcntl.ioctl(loop_device, _LOOP_SET_FD, descriptor)
        with contextlib.suppress(OSError):
            fcntl.ioctl(loop_device, _LOOP_SET_DIRECT_IO, 1)
        if not read_only:
            # What was said of the device for a file that it had before stays with the device.
            fcntl.ioctl(loop_device, _BLKROSET, _WRITABLE)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    finally:
        os.close(loop_device)
    return True


def detach(file: str, *, device: str | None = None) -> None:
    """Flush and remove the loop device of a file, or ``device``, whose file is known to be the volume's, and may have
    been deleted. Does nothing when there is none. Raises ProgramFailed."""
    device = find(file) or device
    if device is None or (backed_by := host_tables.backing_inode(Path(device))) is None:
        return
    run("blockdev", "--flushbufs", device)
    _take_away(device, backed_by)


def _take_away(device: str, backed_by: tuple[int, int] | None) -> None:
    run("losetup", "--detach", device)
    # The kernel detaches it when the last one closes it, which udev, say, does in its own time, and tells nobody.
    deadline = time.monotonic() + _DETACH_SECONDS
    while host_tables.backing_inode(Path(device)) == backed_by:
        if time.monotonic() > deadline:
            raise ProgramFailed(["losetup"], 1, f"{device} is still in use")
        time.sleep(0.02)


def resize(file: str) -> None:
    """Let the loop device of a file see the file's new size. Raises ProgramFailed."""
    device = find(file)
    if device:
        run("losetup", "--set-capacity", device)
