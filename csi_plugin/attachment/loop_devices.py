"""Files as block devices: one loop device for each backing file."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from csi_plugin.attachment import host_tables
from csi_plugin.attachment.programs import ProgramFailed, run

_DETACH_SECONDS = 10.0
_LOOP_SET_DIRECT_IO = 0x4C08


def attach(file: str, *, read_only: bool = False) -> str:
    """The loop device of a file, set up unless there is one. Raises ProgramFailed.

    Direct I/O is used where the filesystem below can, so that data is not cached twice.
    """
    existing = find(file)
    if existing:
        return existing
    options = ["--read-only"] if read_only else []
    device = run("losetup", "--find", "--show", "--nooverlap", *options, file).strip()
    with contextlib.suppress(OSError):
        descriptor = os.open(device, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _LOOP_SET_DIRECT_IO, 1)
        finally:
            os.close(descriptor)
    return device


def find(file: str) -> str | None:
    """The loop device that the file backs, if any."""
    wanted = Path(os.path.realpath(file))
    devices = host_tables.loop_devices_by_file_name().get(wanted.name, [])
    return next((str(device) for device in devices if host_tables.is_backed_by(device, wanted)), None)


def detach(file: str) -> None:
    """Flush and remove the loop device of a file. Does nothing when there is none. Raises ProgramFailed."""
    device = find(file)
    if device is None:
        return
    run("blockdev", "--flushbufs", device)
    run("losetup", "--detach", device)
    # The kernel detaches it when the last one closes it, which udev, say, does in its own time, and tells nobody.
    deadline = time.monotonic() + _DETACH_SECONDS
    while find(file) == device:
        if time.monotonic() > deadline:
            raise ProgramFailed(["losetup"], 1, f"{device} is still in use")
        time.sleep(0.02)


def resize(file: str) -> None:
    """Let the loop device of a file see the file's new size. Raises ProgramFailed."""
    device = find(file)
    if device:
        run("losetup", "--set-capacity", device)
