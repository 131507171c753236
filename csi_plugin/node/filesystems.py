"""Filesystems on a volume's device: creating, checking, mounting and growing them."""

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from csi_plugin.attachment import host_tables, mounted_filesystems, signatures
from csi_plugin.attachment.host_tables import Mount
from csi_plugin.attachment.programs import ProgramFailed, ProgramStuck, run
from csi_plugin.node import ext_superblock, filesystem_features, freezing, mounts, refused_flags
from csi_plugin.node.filesystem_features import EXT
from csi_plugin.protocol import mount_rules
from csi_plugin.protocol.errors import failed_precondition, internal, invalid_argument, unavailable
from csi_plugin.protocol.mkfs_options import FILESYSTEMS, parse_mkfs_options

_MKFS_DEFAULTS = {**dict.fromkeys(EXT, ("-F", "-m0")), "xfs": (), "btrfs": ()}
MKFS_OPTIONS = "mkfs_options"
OLDEST_KERNEL = "oldest_kernel"
"""Keys in volume_context."""
_MKFS_FIELD = f"volume_context.{MKFS_OPTIONS}"

# A big or slow device takes its time, and nothing is won by killing mkfs.
_MKFS_SECONDS = 1800
_FSCK_SECONDS = 3600
_FSCK_REPAIRED = (0, 1, 2)
_GROW_SECONDS = 600
"""For one that is mounted. The kernel goes on with what it has begun, and the next call finds it."""
_MKFS_OPTION = re.compile(r"[A-Za-z0-9_=,.:^@+-]+")


def ensure(
    device_path: str,
    *,
    wanted: str,
    default: str,
    read_only: bool,
    mkfs_options: str,
    oldest_kernel: str,
    used_before: bool,
    begun_before: bool,
    begin: Callable[[], None],
    temporary_dir: Path,
) -> tuple[str, bool]:
    """The filesystem of a device, created when the device is empty and may be written: its type, and whether it is new.

    ``wanted``: the type that the CO asked for, empty for any; ``oldest_kernel``: that has to know all features of a new
    one; ``used_before``: the device had content, as recorded, so an empty one is a sign of something wrong;
    ``begun_before``: mkfs has begun on it when it was empty, and its end was not seen; ``begin``: called before mkfs.
    Raises FAILED_PRECONDITION, and UNAVAILABLE when mkfs has failed half-way; never writes to a device that holds
    anything but what mkfs has begun.
    """
    found = signatures.probe(device_path)
    is_half_made = begun_before and not used_before and not found.is_known
    if found.is_empty or is_half_made:
        filesystem = wanted or default
        if read_only:
            raise failed_precondition("volume_capability: the volume has no filesystem and is to be used read-only")
        if used_before:
            raise failed_precondition(
                f"the volume had a filesystem and {device_path} shows none; it is not formatted again"
            )
        words = parse_mkfs_options(mkfs_options, filesystem=filesystem, field=_MKFS_FIELD)
        words = filesystem_features.words_for(filesystem, words, oldest_kernel=oldest_kernel)
        begin()
        _create_or_repeat(device_path, filesystem, words, temporary_dir=temporary_dir)
        return filesystem, True
    if found.kind not in FILESYSTEMS:
        advice = f". {found.advice}" if found.advice else ""
        raise failed_precondition(
            f"the volume holds {found.kind}, which cannot be mounted and is not overwritten{advice}"
        )
    if wanted and found.kind != wanted:
        raise failed_precondition(f"volume_capability: the volume holds {found.kind}, not {wanted}")
    return found.kind, False


def _create_or_repeat(device_path: str, filesystem: str, words: Sequence[str], *, temporary_dir: Path) -> None:
    """As create(). Raises UNAVAILABLE when mkfs has failed half-way: the CO stages the volume again then, and the node
    still knows what is on it."""
    try:
        create(device_path, filesystem, words, temporary_dir=temporary_dir)
    except ProgramStuck:
        raise
    except ProgramFailed as error:
        if _may_hold_anything(device_path):
            raise unavailable(
                f"the {filesystem} is half-made, and is made again when the call is repeated: {error}"
            ) from error
        raise


def _may_hold_anything(device_path: str) -> bool:
    try:
        return not signatures.probe(device_path).is_empty
    except (ProgramFailed, OSError):
        return True


def create(device_path: str, filesystem: str, words: Sequence[str], *, temporary_dir: Path) -> None:
    """Put a filesystem on an empty device. ``words``: mkfs's options. Raises ProgramFailed."""
    temporary_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whatever an option might name, it is not there.
    with tempfile.TemporaryDirectory(dir=temporary_dir) as empty:
        options = [*_MKFS_DEFAULTS[filesystem], *words]
        run(f"mkfs.{filesystem}", *options, device_path, timeout=_MKFS_SECONDS, folder=empty)


def check_mkfs_words(text: str) -> None:
    """Refuse, with INVALID_ARGUMENT, what is neither a plain option nor a plain value; which options are allowed counts
    when a filesystem is made."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise invalid_argument(f"{_MKFS_FIELD}: {error}") from error
    for word in words:
        if not _MKFS_OPTION.fullmatch(word):
            raise invalid_argument(f"{_MKFS_FIELD}: {word!r} is neither an option nor a plain value")


def check(device_path: str, filesystem: str) -> None:
    """Repair what a crash left, as far as that needs no person. Raises ProgramFailed for what does."""
    if filesystem in EXT:  # xfs and btrfs replay their logs when mounted
        run("e2fsck", "-p", device_path, allowed=_FSCK_REPAIRED, timeout=_FSCK_SECONDS)


def separate_copy(device_path: str) -> None:
    """Give a btrfs that is a copy of one mounted here its own identity: the kernel tells them apart by it."""
    found = signatures.probe(device_path)
    devices = mounted_filesystems.btrfs_devices(found.uuid)
    if devices and Path(device_path).resolve().name not in devices:
        run("btrfstune", "-f", "-m", device_path, timeout=_FSCK_SECONDS)


def _ext_is_smaller(device_path: str) -> bool:
    """Whether the device has room for another block group, the least that ext2, ext3 and ext4 grow by."""
    found = ext_superblock.read(device_path)
    return host_tables.device_size(device_path) - found.size >= found.block_size


def _grow_mounted_ext(device_path: str) -> None:
    try:
        run("resize2fs", device_path, timeout=_GROW_SECONDS)
    except ProgramFailed as error:
        if "Permission denied" in error.output and mounted_filesystems.ext4_error_count(device_path):
            raise failed_precondition(
                "volume_id: the filesystem has recorded errors, and cannot grow while it is mounted; it is checked, "
                "and grows, when the volume is staged next"
            ) from error
        if "Permission denied" in error.output:
            raise failed_precondition(
                "volume_id: the filesystem cannot grow while it is mounted, since this process lacks CAP_SYS_RESOURCE; "
                "it grows when the volume is staged next"
            ) from error
        raise


def mount(device_path: str, target: str, filesystem: str, flags: Sequence[str], *, read_only: bool) -> None:
    """Mount a device's filesystem with the CO's flags and what the filesystem needs.

    Raises ProgramFailed, INVALID_ARGUMENT for flags that the kernel refuses, and FAILED_PRECONDITION when it cannot be
    used read-only as it is. Nothing is mounted then.
    """
    try:
        options = mounts.with_needed_options(device_path, filesystem, flags, read_only=read_only)
        mounts.mount(device_path, target, filesystem=filesystem, options=options)
        _check_mounted(device_path, target, flags, read_only=read_only)
    except ProgramFailed as error:
        if unknown := filesystem_features.unknown_features(device_path, filesystem):
            raise failed_precondition(
                f"the {filesystem} cannot be mounted by this node's kernel, {os.uname().release}: it has "
                f"{', '.join(unknown)}. Use the volume on nodes with a newer kernel ({error})"
            ) from error
        refused_flags.check(error, device_path, target, filesystem, flags, read_only=read_only)
        if not read_only:
            raise
        raise failed_precondition(
            f"the filesystem cannot be mounted read-only ({error}). A copy of a volume in use has changes in its "
            "journal, which a device that may not be written cannot take in: use the copy once read-write, or leave "
            "those changes out with the mount flag noload (ext4) or norecovery (xfs)"
        ) from error


def _check_mounted(device_path: str, target: str, flags: Sequence[str], *, read_only: bool) -> None:
    """mount(8) said that it has mounted: what the kernel shows counts. INTERNAL, and nothing is mounted, otherwise."""
    mounted = mounts.at(target)
    wrong = ""
    if mounted is None:
        raise internal(f"mount has ended well, and nothing is mounted at {target}")
    if not mounts.is_of(mounted, device_path) and Path(mounted.source).resolve() != Path(device_path).resolve():
        wrong = f"{mounted.source} is mounted at {target}, not {device_path}"
    elif read_only and not (mounted.is_read_only or mounted.is_filesystem_read_only):
        wrong = f"{target} is not mounted read-only"
    elif missing := missing_context(mounted, flags):
        wrong = (
            f"mount has left out {missing}, as it does where it sees no /etc/selinux/config, or /sys/fs/selinux not "
            "mounted or read-only: let the node's container have the host's (chart: node.hostMounts)"
        )
    if wrong:
        mounts.unmount_topmost(target)
        raise internal(wrong)


def missing_context(mounted: Mount, flags: Sequence[str]) -> str:
    """The first SELinux label among mount flags that a mount is without; empty where the kernel has no SELinux."""
    if host_tables.knows_filesystem("selinuxfs"):
        for name in mount_rules.contexts(flags):
            # Only the name: the kernel writes a label in its own way.
            if not mounted.has_filesystem_option(name):
                return name
    return ""


def grow_unmounted(device_path: str, filesystem: str) -> None:
    """Let a filesystem that can grow while it is not mounted use all of its device. Raises ProgramFailed."""
    if filesystem in EXT and _ext_is_smaller(device_path):
        run("e2fsck", "-f", "-p", device_path, allowed=_FSCK_REPAIRED, timeout=_FSCK_SECONDS)
        run("resize2fs", device_path, timeout=_FSCK_SECONDS)


def grow(device_path: str, mounted_at: str, filesystem: str) -> None:
    """Let a mounted filesystem use all of its device; does nothing when it does.

    Raises ProgramFailed, UNAVAILABLE for one that is frozen, and FAILED_PRECONDITION where the kernel does not let this
    process grow a mounted ext4.
    """
    match filesystem:
        case "ext2" | "ext3" | "ext4":
            if _ext_is_smaller(device_path):
                freezing.check_thawed(mounted_at)
                _grow_mounted_ext(device_path)
        case "xfs":
            freezing.check_thawed(mounted_at)
            run("xfs_growfs", "-d", mounted_at, timeout=_GROW_SECONDS)
        case "btrfs":
            freezing.check_thawed(mounted_at)
            run("btrfs", "filesystem", "resize", "max", mounted_at, timeout=_GROW_SECONDS)
