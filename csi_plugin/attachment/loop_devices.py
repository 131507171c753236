"""Files as block devices: one loop device for each backing file."""

import contextlib
import os
import time
from pathlib import Path

from csi_plugin.attachment.commands import CommandFailed, run

_SYSFS = Path("/sys/block")
_DETACH_SECONDS = 10.0


def attach(path: str, *, read_only: bool = False) -> str:
    """The loop device of a file, made unless there is one. Raises CommandFailed.

    Direct I/O is used where the filesystem below can, so that data is not cached twice.
    """
    existing = find(path)
    if existing:
        return existing
    options = ["--read-only"] if read_only else []
    device = run("losetup", "--find", "--show", "--nooverlap", *options, path).strip()
    with contextlib.suppress(CommandFailed):
        run("losetup", "--direct-io=on", device)
    return device


def find(path: str) -> str | None:
    """The loop device that the file backs, if any."""
    wanted = os.path.realpath(path)
    for backing in _SYSFS.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # detached meanwhile
            if backing.read_text().rstrip("\n") == wanted:
                return f"/dev/{backing.parent.parent.name}"
    return None


def backing_file(device: str) -> str | None:
    """The file behind a loop device; None for other devices and free loop devices."""
    try:
        return (_SYSFS / Path(device).name / "loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return None


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
