"""The kernel's tables of this host, read in this one place: mounts, loop devices, and block devices in sysfs.

Nothing here changes anything, and nothing is kept between two calls: tables change at any time, by any hand.
"""

import fcntl
import logging
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger(__name__)

_MOUNTS = Path("/proc/self/mountinfo")
_BLOCK_DEVICES = Path("/sys/dev/block")
_NAMED_DEVICES = Path("/sys/block")
_RBD_DEVICES = Path("/sys/bus/rbd/devices")
_FILESYSTEMS = Path("/proc/filesystems")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")
_SPECIAL = " \t\n\\"
_DELETED = " (deleted)"
"""What the kernel adds to the path of a file that has no name any more."""
_OPTION = re.compile(r'(?:[^,"]|"[^"]*"|")+')
"""A mount option: SELinux' labels have commas, and quotes around them then."""
_NOT_WRITTEN = ("ro", "emergency_ro", "shutdown")  # the last two since Linux 6.15, of what is stopped after errors
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO64 = struct.Struct("=QQ216x")  # linux/loop.h: lo_device and lo_inode come first

DeviceNumber = tuple[int, int]
"""Major and minor number."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A line of /proc/self/mountinfo, in the words of proc(5)."""

    device_number: DeviceNumber
    """Of the mounted filesystem's device."""
    root: str
    """What of the filesystem is mounted: / for all of it."""
    target: str
    options: frozenset[str]
    """Of this mount."""
    filesystem: str
    source: str
    filesystem_options: frozenset[str]
    """Of the filesystem itself, for all of its mounts."""

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written through this mount."""
        return "ro" in self.options

    @property
    def is_filesystem_read_only(self) -> bool:
        """Whether nothing can be written to the filesystem, through any mount: the kernel does that after errors."""
        return not self.filesystem_options.isdisjoint(_NOT_WRITTEN)

    def has_filesystem_option(self, name: str) -> bool:
        """Whether the filesystem is mounted with an option of that name, whatever its value."""
        return any(option.partition("=")[0] == name for option in self.filesystem_options)


def mounts(*, target: str | None = None) -> list[Mount]:
    """The mounts that this process sees, all of them or those at a path, in the order in which they were mounted."""
    found = []
    # A node has two or more for each volume, and each call on a volume asks for those at its own paths.
    needle = "" if target is None else f" {_escape(target)} "
    for line in _lines(_MOUNTS):
        if needle not in line:
            continue
        try:
            found.append(parse_mount(line))
        except ValueError as error:
            # Perhaps a newer kernel's; another mount must not stop what is done with this one.
            LOG.warning("a line of %s is passed over, as it cannot be read (%s): %.200r", _MOUNTS, error, line)
    return found if target is None else [mount for mount in found if mount.target == target]


def parse_mount(line: str) -> Mount:
    """A line of mountinfo. Between the mount's options and the dash there may be any number of other fields.

    Raises ValueError for what is none.
    """
    before, _, after = line.partition(" - ")
    _, _, device, root, target, options, *_ = before.split(" ")
    filesystem, source, filesystem_options, *_ = after.split(" ")
    major, _, minor = device.partition(":")
    return Mount(
        device_number=(int(major), int(minor)),
        root=_unescape(root),
        target=_unescape(target),
        options=frozenset(options.split(",")),
        filesystem=filesystem,
        source=_unescape(source),
        filesystem_options=frozenset(_OPTION.findall(filesystem_options)),
    )


def _unescape(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), os.fsencode(text)))


def _escape(text: str) -> str:
    """As the kernel writes a path."""
    return "".join(f"\\{ord(character):03o}" if character in _SPECIAL else character for character in text)


def knows_filesystem(name: str) -> bool:
    """Whether the kernel has a filesystem, loaded or built in: selinuxfs, unless SELinux is off."""
    return any(name in line.split() for line in _lines(_FILESYSTEMS))


def device_number(device_path: str | Path) -> DeviceNumber:
    """The numbers of a device, by its node. Raises OSError."""
    status = Path(device_path).stat()
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def device_of_number(number: DeviceNumber) -> str:
    """The kernel's own node of a block device; empty when there is none such."""
    folder = _folder_of_number(number)
    return f"/dev/{folder.resolve().name}" if folder.exists() else ""


def is_known_device(number: DeviceNumber) -> bool:
    """Whether the kernel has a block device of that number."""
    return _folder_of_number(number).exists()


def device_folder(device_path: str) -> Path:
    """The kernel's folder of a block device; it need not exist. Raises OSError when the device's node is not there."""
    return _folder_of_number(device_number(device_path)).resolve()


def _folder_of_number(number: DeviceNumber) -> Path:
    return _BLOCK_DEVICES / f"{number[0]}:{number[1]}"


def device_size(device_path: str) -> int:
    """Bytes of a block device. Raises OSError when it cannot be opened."""
    with Path(device_path).open("rb") as device:
        return device.seek(0, os.SEEK_END)


def lower_devices(folder: Path) -> list[Path]:
    """The folders of the devices below a device-mapper device; none for any other device."""
    return [entry.resolve() for entry in (folder / "slaves").glob("*")]


def upper_devices(folder: Path, loops_over: Mapping[str, list[Path]]) -> list[Path]:
    """The folders of the devices that are built on a device: partitions, what holds it, loop devices that it backs.

    ``loops_over``: of loop_devices_over_devices().
    """
    partitions = [entry.parent.resolve() for entry in folder.glob("*/partition")]
    holders = [entry.resolve() for entry in (folder / "holders").glob("*")]
    return [*partitions, *loops_over.get(f"/dev/{folder.name.replace('!', '/')}", ()), *holders]


def loop_devices_over_devices() -> dict[str, list[Path]]:
    """The folders of the loop devices that a block device backs, by that device's path."""
    found: dict[str, list[Path]] = {}
    for attribute in _NAMED_DEVICES.glob("loop*/loop/backing_file"):
        if (file := _read(attribute)).startswith("/dev/"):
            found.setdefault(file, []).append(attribute.parents[1].resolve())
    return found


def number_of(folder: Path) -> DeviceNumber | None:
    """The numbers of a device, from its folder; None when it is gone."""
    major, _, minor = _read(folder / "dev").partition(":")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def named_folder(name: str) -> Path:
    """The folder of a device by its name in the kernel; it need not exist."""
    return (_NAMED_DEVICES / name).resolve()


def named_folders(pattern: str) -> list[Path]:
    """The folders of the devices whose names in the kernel a pattern matches."""
    return [entry.resolve() for entry in sorted(_NAMED_DEVICES.glob(pattern))]


def multipath_name(folder: Path) -> str | None:
    """The name of its volume that a multipath map has, from its folder; None for any other device."""
    uuid = _read(folder / "dm/uuid")
    return uuid.removeprefix("mpath-") if uuid.startswith("mpath-") else None


def dm_uuid(folder: Path) -> str:
    """device-mapper's UUID of a device, from its folder, which says who made it; empty for other devices."""
    return _read(folder / "dm/uuid")


def dm_name(folder: Path) -> str:
    """device-mapper's name of a device, from its folder; empty for other devices."""
    return _read(folder / "dm/name")


def crypt_name(folder: Path) -> str | None:
    """The name of a device that dm-crypt decrypts, from its folder; None for any other device."""
    return _read(folder / "dm/name") if _read(folder / "dm/uuid").startswith("CRYPT-") else None


def scsi_name(folder: Path) -> str:
    """The world-wide name that a SCSI device has told the kernel; empty for others."""
    return _read(folder / "device/wwid")


def scsi_unit(folder: Path) -> int | None:
    """The unit's number of a SCSI device, from its folder; None for others."""
    address = (folder / "device").resolve().name.split(":")
    return int(address[3]) if len(address) == 4 and address[3].isdecimal() else None


def scsi_or_nvme_state(folder: Path) -> str:
    """What the kernel calls the state of a SCSI or NVMe device, from its folder; empty for others."""
    return _read(folder / "device/state")


def is_suspended(folder: Path) -> bool:
    """Whether a device-mapper device, from its folder, lets all I/O wait."""
    return _read(folder / "dm/suspended") == "1"


def ana_state(folder: Path) -> str:
    """What an NVMe storage says of a path, from its folder: as whether it is optimized; empty where it says nothing."""
    return _read(folder / "ana_state")


def controller_state(folder: Path) -> str:
    """What the kernel calls the state of an NVMe controller, from its folder."""
    return _read(folder / "state")


def nvme_name(folder: Path) -> str:
    """The world-wide name of an NVMe device; empty for others."""
    return _read(folder / "wwid")


def size_of(folder: Path) -> int:
    """Bytes of a block device, from its folder; 0 when it is gone."""
    text = _read(folder / "size")
    return int(text) * 512 if text.isdecimal() else 0


def is_write_protected(device_path: str) -> bool:
    """Whether nothing can be written to a block device. Raises OSError when its node is not there."""
    return _read(device_folder(device_path) / "ro") == "1"


def rescan_file(folder: Path) -> Path | None:
    """What is written to so that the kernel asks a SCSI device again who it is; None for others."""
    path = folder / "device/rescan"
    return path if path.exists() else None


def path_count(device_path: str) -> int:
    """Over how many paths a block device is reached: of a multipath map, all but those that the kernel has switched
    off; else one, or none when it is gone."""
    try:
        folder = device_folder(device_path)
    except OSError:
        return 0
    if multipath_name(folder) is not None:
        return sum(not is_switched_off(path) for path in lower_devices(folder))
    return len(nvme_paths(folder)) if is_nvme_head(folder) else int(folder.is_dir())


def is_switched_off(folder: Path) -> bool:
    """Whether the kernel's error handling has given up a SCSI device, from its folder; it stays so until it is told
    otherwise, unlike one whose transport is away."""
    return _read(folder / "device/state") == "offline"


def is_nvme_head(folder: Path) -> bool:
    """Whether a device, from its folder, is one that the kernel's own NVMe multipath has over several controllers."""
    return folder.name.startswith("nvme") and folder.parent.name.startswith("nvme-subsys")


def nvme_paths(head: Path) -> list[Path]:
    """The folders of the paths of such a device: of nvme0n1 nvme0c1n1 and the like, in those of their controllers."""
    subsystem, _, namespace = head.name.rpartition("n")
    return list(head.parent.glob(f"nvme*/{subsystem}c*n{namespace}"))


def is_over_paths(device_path: str) -> bool:
    """Whether a block device is one over several paths, which come and go without it."""
    try:
        folder = device_folder(device_path)
    except OSError:
        return False
    return multipath_name(folder) is not None or is_nvme_head(folder)


def is_map(device_path: str) -> bool:
    """Whether a block device is a multipath map."""
    try:
        return multipath_name(device_folder(device_path)) is not None
    except OSError:
        return False


def device_identity(device_path: str) -> str:
    """What tells a block device's content from another's under the same name, which the kernel gives out again.

    World-wide name, device-mapper UUID, backing file or RBD image; otherwise the number, which is good until the next
    boot. Raises OSError when there is no such device.
    """
    folder = device_folder(device_path)
    if file := _loop_identity(Path(device_path)):
        return f"loop {file}"
    for attribute in ("wwid", "device/wwid", "dm/uuid"):
        if text := _read(folder / attribute):
            return f"{attribute} {text}"
    if folder.name.startswith("rbd"):
        image = _RBD_DEVICES / folder.name.removeprefix("rbd")
        return " ".join(
            ["rbd", *(_decode((image / part).read_bytes()).strip() for part in ("pool", "image_id", "current_snap"))]
        )
    major, minor = device_number(device_path)
    return f"number {major}:{minor} of boot {_decode(_BOOT_ID.read_bytes())}"


def is_lasting(identity: str) -> bool:
    """Whether a device has its identity again when it comes back: it is not a mere number."""
    return bool(identity) and not identity.startswith("number ")


def loop_devices_by_file_name() -> dict[str, list[Path]]:
    """Loop devices by the name, without directory, of the file that backs them.

    The directory that the kernel tells is the one of the mount namespace in which the device was set up, and changes
    when that ends, as it does with every container.
    """
    found: dict[str, list[Path]] = {}
    for attribute in _NAMED_DEVICES.glob("loop*/loop/backing_file"):
        try:
            name = _backing_file_name(attribute)
        except OSError:  # detached in the meantime
            continue
        found.setdefault(name, []).append(Path("/dev") / attribute.parts[3])
    return found


def is_backed_by(device: Path, file: Path) -> bool | None:
    """Whether the file backs the loop device; None when there is no access to the device.

    Opening a device disturbs its owner's detach: ask only of devices that loop_devices_by_file_name() gives for the
    file.
    """
    try:
        backing = _backing_inode(device)
    except (FileNotFoundError, PermissionError):
        return None
    except OSError:  # ENXIO: detached in the meantime
        return False
    try:
        status = file.stat()
    except FileNotFoundError:
        return False
    return backing == (status.st_dev, status.st_ino)


def backing_inode(device: Path) -> tuple[int, int] | None:
    """Numbers of the filesystem and of the inode of the file behind a loop device; None where there is none.

    Opening a device disturbs its owner's detach: ask only of devices that loop_devices_by_file_name() gives for the
    file.
    """
    try:
        return _backing_inode(device)
    except OSError:
        return None


def backing_file(device: Path) -> Path | None:
    """The file behind a loop device, where it is at the path that the kernel tells; None otherwise."""
    file = Path(_read(_NAMED_DEVICES / device.resolve().name / "loop/backing_file"))
    return file if file.is_absolute() and is_backed_by(device, file) else None


def backing_filesystem(device: Path) -> int | None:
    """The number of the filesystem that has the file behind a loop device; None where there is none."""
    try:
        return _backing_inode(device)[0]
    except OSError:
        return None


def _loop_identity(device: Path) -> str | None:
    """What tells the file behind a loop device from others, in every mount namespace; None for other devices."""
    try:
        name = _backing_file_name(_NAMED_DEVICES / device.name / "loop/backing_file")
        filesystem, inode = _backing_inode(device)
    except OSError:
        return None
    return f"{name} {filesystem}:{inode}"


def _backing_file_name(attribute: Path) -> str:
    return _decode(attribute.read_bytes()).rpartition("/")[2].removesuffix(_DELETED)


def _backing_inode(device: Path) -> tuple[int, int]:
    """Device number of the filesystem, and inode number, of the file behind a loop device. Raises OSError."""
    descriptor = os.open(device, os.O_RDONLY)
    try:
        status = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64.size))
    finally:
        os.close(descriptor)
    filesystem, inode = _LOOP_INFO64.unpack(status)
    return filesystem, inode


def _lines(table: Path) -> list[str]:
    """The lines of a table. Names in it are any bytes but a newline: of those that are no text, each is a surrogate, as
    in all of Python's paths; and no other character ends a line. Raises OSError."""
    return _decode(table.read_bytes()).split("\n")


def _decode(content: bytes) -> str:
    """Without the newline that the kernel ends it with: a name may end in one of its own."""
    return os.fsdecode(content.removesuffix(b"\n"))


def _read(attribute: Path) -> str:
    """An attribute in sysfs; empty when the device has none such."""
    try:
        return _decode(attribute.read_bytes().strip())
    except OSError:
        return ""
