"""Loop devices of this host that a file backs, as the driver sees them: perhaps without access to them."""

import os
import time
from pathlib import Path

from csi_plugin.attachment.host_tables import is_backed_by, loop_devices_by_file_name


def is_attached(path: Path, *, timeout: float = 0.0) -> bool:
    """Whether a loop device of this host is backed by the file, in whatever mount namespace it was set up.

    A device being detached keeps its file until udev, say, closes it, and the kernel tells nobody when: wait for that
    up to `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while any(is_backed_by(device, path) is not False for device in _candidates(path)):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.02)
    return False


def flush(path: Path) -> None:
    """Write what was written to loop devices of this file so far into the file (their page cache is not the file's).

    Raises OSError when the data can't be written.
    """
    for device in _candidates(path):
        backed = is_backed_by(device, path)
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
    return loop_devices_by_file_name().get(path.name, [])
