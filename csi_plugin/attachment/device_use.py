"""What uses a block device: mounts of it, and devices that are built on it. All by device number, whatever the names.

Nothing here changes anything.
"""

import errno
import os
import stat
from pathlib import Path

from csi_plugin.attachment import host_tables
from csi_plugin.attachment.host_tables import DeviceNumber, Mount

_HOLD_DEVICE_NODES = ("devtmpfs", "tmpfs")
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "glusterfs", "lustre", "gpfs", "fuse")
"""Filesystems whose server may be away, and lets whoever looks at a path wait."""
_ANONYMOUS = 0
"""Major number of filesystems that are not on one block device alone."""


def mounts_of(numbers: set[DeviceNumber]) -> list[Mount]:
    """Mounts of the filesystems on block devices, and bind mounts of their nodes.

    Nothing is asked of servers: a node that is mounted on a share, or below one, is not looked at.
    """
    mounts = host_tables.mounts()
    remote = tuple(f"{mount.target.rstrip('/')}/" for mount in mounts if _is_remote(mount))
    return [
        mount
        for mount in mounts
        if mount.device_number in numbers
        or not (f"{mount.target}/".startswith(remote) or numbers.isdisjoint(device_numbers(mount)))
    ]


def _is_remote(mount: Mount) -> bool:
    return mount.filesystem.partition(".")[0] in _REMOTE


def device_numbers(mount: Mount) -> set[DeviceNumber | None]:
    """The numbers of what a mount shows: its filesystem's device, and the device whose node is mounted.

    A filesystem of several devices, as btrfs may be, has a number that is no device's: there, its source tells.
    """
    return {mount.device_number, node_number(mount), _source_number(mount)}


def node_number(mount: Mount) -> DeviceNumber | None:
    """The number of the block device whose node is mounted; None for other mounts."""
    if mount.filesystem not in _HOLD_DEVICE_NODES or mount.root == "/":
        return None
    return _block_number(mount.target)


def _source_number(mount: Mount) -> DeviceNumber | None:
    if mount.device_number[0] != _ANONYMOUS or not mount.source.startswith("/dev/"):
        return None
    return _block_number(mount.source)


def _block_number(path: str) -> DeviceNumber | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISBLK(status.st_mode) else None


def has_lost_its_device(mount: Mount) -> bool:
    """Whether the kernel no longer has the block device that a mount shows."""
    number = node_number(mount) or mount.device_number
    return number[0] != _ANONYMOUS and not host_tables.is_known_device(number)


def with_upper_devices(folders: list[Path]) -> list[Path]:
    """Folders of devices, and of all that is built on them: partitions, device-mapper devices, arrays, loop devices."""
    found: list[Path] = []
    waiting = list(folders)
    loops_over = host_tables.loop_devices_over_devices()
    while waiting:
        folder = waiting.pop()
        if folder not in found:
            found.append(folder)
            waiting += host_tables.upper_devices(folder, loops_over)
    return found


def is_in_use(folders: list[Path]) -> bool:
    """Whether anything mounts devices, from their folders, or holds them: LUKS, a logical volume, an array, a loop
    device. A multipath map over them, or a partition, is no use by itself."""
    devices = with_upper_devices(folders)
    if any(_is_holder(folder) for folder in devices if folder not in folders):
        return True
    numbers = {number for folder in devices if (number := host_tables.number_of(folder))}
    return bool(numbers and mounts_of(numbers))


def is_held(device_path: str) -> bool:
    """Whether a block device is somebody's alone: a filesystem's that is mounted, in whatever mount namespace, or a
    device's that is built on it. False for one that cannot be opened."""
    try:
        os.close(os.open(device_path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _is_holder(folder: Path) -> bool:
    return host_tables.multipath_name(folder) is None and not (folder / "partition").exists()
