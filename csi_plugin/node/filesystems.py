"""Filesystems on a volume's device: creating, checking, mounting and growing them."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from csi_plugin.attachment import host_tables, signatures
from csi_plugin.attachment.programs import ProgramFailed, run
from csi_plugin.node import mounts
from csi_plugin.protocol.errors import failed_precondition, invalid_argument

_MKFS_DEFAULTS = {"ext4": ("-F", "-m0"), "xfs": (), "btrfs": ()}
SUPPORTED = tuple(_MKFS_DEFAULTS)
MKFS_OPTIONS = "mkfs_options"
"""Key in volume_context."""

# A big or slow device takes its time, and nothing is won by killing mkfs.
_MKFS_SECONDS = 1800
_FSCK_SECONDS = 3600
_FSCK_REPAIRED = (0, 1, 2)
_MKFS_OPTION = re.compile(r"[A-Za-z0-9_=,.:^@+-]+")


def ensure(
    device_path: str, *, wanted: str, default: str, read_only: bool, mkfs_options: str, used_before: bool
) -> tuple[str, bool]:
    """The filesystem of a device, created when the device is empty and may be written: its type, and whether it is new.

    ``wanted``: the type that the CO asked for, empty for any; ``used_before``: the device had content, as recorded, so
    an empty one is a sign of something wrong. Raises FAILED_PRECONDITION, and never writes to a device that holds
    anything.
    """
    found = signatures.probe(device_path)
    if found.is_empty:
        filesystem = wanted or default
        if read_only:
            raise failed_precondition("volume_capability: the volume has no filesystem and is to be used read-only")
        if used_before:
            raise failed_precondition(
                f"the volume had a filesystem and {device_path} shows none; it is not formatted again"
            )
        create(device_path, filesystem, mkfs_options)
        return filesystem, True
    if found.kind not in SUPPORTED:
        advice = f". {found.advice}" if found.advice else ""
        raise failed_precondition(
            f"the volume holds {found.kind}, which cannot be mounted and is not overwritten{advice}"
        )
    if wanted and found.kind != wanted:
        raise failed_precondition(f"volume_capability: the volume holds {found.kind}, not {wanted}")
    return found.kind, False


def create(device_path: str, filesystem: str, mkfs_options: str) -> None:
    """Put a filesystem on an empty device. Raises ProgramFailed."""
    options = [*_MKFS_DEFAULTS[filesystem], *parse_mkfs_options(mkfs_options)]
    run(f"mkfs.{filesystem}", *options, device_path, timeout=_MKFS_SECONDS)


def parse_mkfs_options(text: str) -> list[str]:
    """mkfs's options as a list. Raises INVALID_ARGUMENT for what is neither a plain option nor a plain value."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise invalid_argument(f"volume_context.{MKFS_OPTIONS}: {error}") from error
    for word in words:
        if not _MKFS_OPTION.fullmatch(word):
            raise invalid_argument(f"volume_context.{MKFS_OPTIONS}: {word!r} is neither an option nor a plain value")
    return words


def check(device_path: str, filesystem: str) -> None:
    """Repair what a crash left, as far as that needs no person. Raises ProgramFailed for what does."""
    if filesystem == "ext4":  # xfs and btrfs replay their logs when mounted
        run("fsck.ext4", "-p", device_path, allowed=_FSCK_REPAIRED, timeout=_FSCK_SECONDS)


def separate_copy(device_path: str) -> None:
    """Give a btrfs that is a copy of one mounted here its own identity: the kernel tells them apart by it."""
    found = signatures.probe(device_path)
    devices = host_tables.btrfs_devices(found.uuid)
    if devices and Path(device_path).resolve().name not in devices:
        run("btrfstune", "-f", "-m", device_path, timeout=_FSCK_SECONDS)


def _ext4_is_smaller(device_path: str) -> bool:
    """Whether the device has room for another block group, the least that ext4 grows by."""
    header = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in run("dumpe2fs", "-h", device_path).splitlines())
    }
    block, count = int(header["Block size"]), int(header["Block count"])
    return host_tables.device_size(device_path) - block * count >= block


def _grow_mounted_ext4(device_path: str) -> None:
    try:
        run("resize2fs", device_path, timeout=_FSCK_SECONDS)
    except ProgramFailed as error:
        if "Permission denied" in error.output:
            raise failed_precondition(
                "volume_id: ext4 cannot grow while it is mounted, since this process lacks CAP_SYS_RESOURCE; it grows "
                "when the volume is staged next"
            ) from error
        raise


def mount(device_path: str, target: str, filesystem: str, flags: Sequence[str], *, read_only: bool) -> None:
    """Mount a device's filesystem with the CO's flags and what the filesystem needs.

    Raises ProgramFailed, and FAILED_PRECONDITION when it cannot be used read-only as it is.
    """
    try:
        options = mount_options(filesystem, flags, read_only=read_only)
        mounts.mount(device_path, target, filesystem=filesystem, options=options)
    except ProgramFailed as error:
        if not read_only:
            raise
        raise failed_precondition(
            f"the filesystem cannot be mounted read-only ({error}). A copy of a volume in use has changes in its "
            "journal, which a device that may not be written cannot take in: use the copy once read-write, or leave "
            "those changes out with the mount flag noload (ext4) or norecovery (xfs)"
        ) from error


def mount_options(filesystem: str, flags: Sequence[str], *, read_only: bool) -> list[str]:
    """mount's options: the CO's flags, but for those that say whether it is read-only, and what has to be added."""
    options = [flag for flag in flags if flag not in ("ro", "rw")]
    if filesystem == "xfs" and "nouuid" not in options:
        options.append("nouuid")  # a copy of an xfs that is mounted here has the same UUID
    return [*options, "ro"] if read_only else options


def grow_unmounted(device_path: str, filesystem: str) -> None:
    """Let a filesystem that can grow while it is not mounted use all of its device. Raises ProgramFailed."""
    if filesystem == "ext4" and _ext4_is_smaller(device_path):
        run("e2fsck", "-f", "-p", device_path, allowed=_FSCK_REPAIRED, timeout=_FSCK_SECONDS)
        run("resize2fs", device_path, timeout=_FSCK_SECONDS)


def grow(device_path: str, mounted_at: str, filesystem: str) -> None:
    """Let a mounted filesystem use all of its device; does nothing when it does.

    Raises ProgramFailed, and FAILED_PRECONDITION where the kernel does not let this process grow a mounted ext4.
    """
    match filesystem:
        case "ext4":
            if _ext4_is_smaller(device_path):
                _grow_mounted_ext4(device_path)
        case "xfs":
            run("xfs_growfs", "-d", mounted_at, timeout=_FSCK_SECONDS)
        case "btrfs":
            run("btrfs", "filesystem", "resize", "max", mounted_at, timeout=_FSCK_SECONDS)
