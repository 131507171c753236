"""Loop devices of this host that a file backs."""

import fcntl
import os
import struct
import time
from pathlib import Path

_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO64 = struct.Struct("=QQ216x")  # linux/loop.h: lo_device and lo_inode come first


def is_attached(path: Path, *, timeout: float = 0.0) -> bool:
    """Whether a loop device of this host is backed by the file, in whatever mount namespace it was set up.

    A device being detached keeps its file until udev, say, closes it, and the kernel tells nobody when: wait for that
    up to `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while any(_backed_by(device, path) is not False for device in _candidates(path)):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.02)
    return False


def backing_names() -> dict[str, list[Path]]:
    """Loop devices by the name, without directory, of the file that backs them."""
    found: dict[str, list[Path]] = {}
    for attribute in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = attribute.read_text().rstrip("\n")
        except OSError:  # detached in the meantime
            continue
        found.setdefault(backing.rpartition("/")[2], []).append(Path("/dev") / attribute.parts[3])
    return found


def flush(path: Path) -> None:
    """Write what was written to loop devices of this file so far into the file (their page cache is not the file's).

    Raises OSError when the data can't be written.
    """
    for device in _candidates(path):
        backed = _backed_by(device, path)
        if backed is None:
            # No device node here, as in a container without the host's /dev: what remains is to flush every device.
            os.sync()
        elif backed:
            descriptor = os.open(device, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _candidates(path: Path) -> list[Path]:
    """Devices with a backing file of this name. Others are not opened, which would disturb their owners' detach."""
    return backing_names().get(path.name, [])


def _backed_by(device: Path, path: Path) -> bool | None:
    """Whether the file backs the device; None when there is no access to the device."""
    try:
        descriptor = os.open(device, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return None
    except OSError:  # ENXIO: detached in the meantime
        return False
    try:
        answer = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64.size))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    status = path.stat()
    return _LOOP_INFO64.unpack(answer) == (status.st_dev, status.st_ino)
