"""Filesystems on a volume's device: making, checking and growing them."""

import re
import shlex
from pathlib import Path

from csi_plugin.attachment import signatures
from csi_plugin.attachment.commands import CommandFailed, run
from csi_plugin.attachment.devices import size_of
from csi_plugin.node import mounts
from csi_plugin.protocol.errors import failed_precondition, invalid_argument

SUPPORTED = ("ext4", "xfs", "btrfs")
MKFS_OPTIONS = "mkfs_options"
"""Key in volume_context."""

# A big or slow device takes its time, and nothing is won by killing mkfs.
_MKFS_SECONDS = 1800
_FSCK_SECONDS = 3600
_FSCK_REPAIRED = (0, 1, 2)
_OPTION = re.compile(r"[A-Za-z0-9_=,.:^@+-]+")


def ensure(
    path: str, *, wanted: str, default: str, read_only: bool, mkfs_options: str, used_before: bool
) -> tuple[str, bool]:
    """The filesystem of a device, made when the device is empty and may be written: its type, and whether it was made.

    ``wanted``: the type that the CO asked for, empty for any; ``used_before``: the device had content, as recorded, so
    an empty one is a sign of something wrong. Raises FAILED_PRECONDITION, and never writes to a device that holds
    anything.
    """
    found = signatures.probe(path)
    if found.is_empty:
        filesystem = wanted or default
        if read_only:
            raise failed_precondition("volume_capability: the volume has no filesystem and is to be used read-only")
        if used_before:
            raise failed_precondition(f"the volume had a filesystem and {path} shows none; it is not formatted again")
        make(path, filesystem, mkfs_options)
        return filesystem, True
    if found.kind not in SUPPORTED:
        raise failed_precondition(f"the volume holds {found.kind}, which cannot be mounted and is not overwritten")
    if wanted and found.kind != wanted:
        raise failed_precondition(f"volume_capability: the volume holds {found.kind}, not {wanted}")
    return found.kind, False


def make(path: str, filesystem: str, mkfs_options: str) -> None:
    """Put a filesystem on an empty device. Raises CommandFailed."""
    defaults = {"ext4": ["-F", "-m0"], "xfs": [], "btrfs": []}[filesystem]
    run(f"mkfs.{filesystem}", *defaults, *checked_options(mkfs_options), path, timeout=_MKFS_SECONDS)


def checked_options(text: str) -> list[str]:
    """mkfs's options as a list. Raises INVALID_ARGUMENT for what is no plain option or value."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise invalid_argument(f"volume_context.{MKFS_OPTIONS}: {error}") from error
    for word in words:
        if not _OPTION.fullmatch(word):
            raise invalid_argument(f"volume_context.{MKFS_OPTIONS}: {word!r} is neither an option nor a plain value")
    return words


def check(path: str, filesystem: str) -> None:
    """Repair what a crash left, as far as that needs no person. Raises CommandFailed for what does."""
    if filesystem == "ext4":  # xfs and btrfs replay their logs when mounted
        run("fsck.ext4", "-p", path, allowed=_FSCK_REPAIRED, timeout=_FSCK_SECONDS)


def separate_copy(path: str) -> None:
    """Give a btrfs that is a copy of one mounted here its own identity: the kernel tells them apart by it."""
    found = signatures.probe(path)
    devices = Path("/sys/fs/btrfs") / found.uuid / "devices"
    if found.uuid and devices.is_dir() and Path(path).resolve().name not in {entry.name for entry in devices.iterdir()}:
        run("btrfstune", "-f", "-m", path, timeout=_FSCK_SECONDS)


def _ext4_is_smaller(path: str) -> bool:
    """Whether the device has room for another block group, the least that ext4 grows by."""
    header = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in run("dumpe2fs", "-h", path).splitlines())
    }
    block, count = int(header["Block size"]), int(header["Block count"])
    return size_of(path) - block * count >= block


def _grow_mounted_ext4(path: str) -> None:
    try:
        run("resize2fs", path, timeout=_FSCK_SECONDS)
    except CommandFailed as error:
        if "Permission denied" in error.output:
            raise failed_precondition(
                "volume_id: ext4 cannot grow while it is mounted, since this process lacks CAP_SYS_RESOURCE; it grows "
                "when the volume is staged next"
            ) from error
        raise


def mount(path: str, target: str, filesystem: str, flags: list[str], *, read_only: bool) -> None:
    """Mount a device's filesystem with the CO's flags and what the filesystem needs.

    Raises CommandFailed, and FAILED_PRECONDITION when it cannot be used read-only as it is.
    """
    options = [flag for flag in flags if flag not in ("ro", "rw")]
    if filesystem == "xfs" and "nouuid" not in options:
        options.append("nouuid")  # a copy of an xfs that is mounted here has the same UUID
    if not read_only:
        mounts.mount(path, target, filesystem=filesystem, options=options)
        return
    try:
        mounts.mount(path, target, filesystem=filesystem, options=[*options, "ro"])
    except CommandFailed as error:
        raise failed_precondition(
            f"the filesystem cannot be mounted read-only ({error}). A copy of a volume in use has changes in its "
            "journal, which a device that may not be written cannot take in: use the copy once read-write, or leave "
            "those changes out with the mount flag noload (ext4) or norecovery (xfs)"
        ) from error


def grow_unmounted(path: str, filesystem: str) -> None:
    """Let a filesystem that can grow while it is not mounted use all of its device. Raises CommandFailed."""
    if filesystem == "ext4" and _ext4_is_smaller(path):
        run("e2fsck", "-f", "-p", path, allowed=_FSCK_REPAIRED, timeout=_FSCK_SECONDS)
        run("resize2fs", path, timeout=_FSCK_SECONDS)


def grow(path: str, mounted_at: str, filesystem: str) -> None:
    """Let a mounted filesystem use all of its device; does nothing when it does.

    Raises CommandFailed, and FAILED_PRECONDITION where the kernel does not let this process grow a mounted ext4.
    """
    match filesystem:
        case "ext4":
            if _ext4_is_smaller(path):
                _grow_mounted_ext4(path)
        case "xfs":
            run("xfs_growfs", "-d", mounted_at, timeout=_FSCK_SECONDS)
        case "btrfs":
            run("btrfs", "filesystem", "resize", "max", mounted_at, timeout=_FSCK_SECONDS)
