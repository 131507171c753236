"""Mounts of this node: reading the kernel's table, mounting and unmounting."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csi_plugin.attachment.commands import run

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A line of /proc/self/mountinfo, in the words of proc(5)."""

    device: tuple[int, int]
    """Major and minor number of the mounted filesystem's device."""
    root: str
    """What of the filesystem is mounted: / for all of it."""
    target: str
    options: frozenset[str]
    filesystem: str
    source: str

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.options


def table() -> list[Mount]:
    """All mounts, in the order in which they were made."""
    return [_parsed(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def at(target: str) -> Mount | None:
    """What is mounted at a path (the topmost, when several are), if anything."""
    wanted = os.path.realpath(target)
    found = [mount for mount in table() if mount.target == wanted]
    return found[-1] if found else None


def of_device(path: str) -> list[Mount]:
    """Mounts of the filesystem on a block device, and bind mounts of the device's node."""
    status = Path(path).stat()
    device = os.major(status.st_rdev), os.minor(status.st_rdev)
    return [mount for mount in table() if mount.device == device or _is_node_of(mount, device)]


def is_of(mount: Mount, path: str) -> bool:
    """Whether a mount shows the filesystem on a block device, or the device's node itself."""
    if not path:
        return False
    try:
        status = Path(path).stat()
    except OSError:
        return mount.source == path  # a mount outlives its device
    device = os.major(status.st_rdev), os.minor(status.st_rdev)
    return mount.source == path or mount.device == device or _is_node_of(mount, device)


def is_of_some_device(mount: Mount) -> bool:
    """Whether a mount shows the filesystem on a block device, or a device's node, as volumes do."""
    return mount.source.startswith("/dev/") or _node(mount) is not None


def _is_node_of(mount: Mount, device: tuple[int, int]) -> bool:
    return _node(mount) == device


def _node(mount: Mount) -> tuple[int, int] | None:
    """Major and minor number of the block device whose node is mounted; None for other mounts."""
    if mount.filesystem not in ("devtmpfs", "tmpfs") or mount.root == "/":
        return None
    try:
        status = Path(mount.target).stat()
    except OSError:
        return None
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISBLK(status.st_mode) else None


def mount(source: str, target: str, *, filesystem: str, options: Sequence[str]) -> None:
    """Mount a device. Raises CommandFailed."""
    arguments = ["-o", ",".join(options)] if options else []
    run("mount", "-t", filesystem, *arguments, "--", source, target)


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Show a folder or file at another path too. Raises CommandFailed; nothing is mounted then."""
    run("mount", "--bind", "--", source, target)
    if read_only:
        try:
            make_read_only(target)
        except Exception:
            unmount(target)
            raise


def make_read_only(target: str) -> None:
    """Forbid writing through a bind mount; others of the filesystem stay as they are. Raises CommandFailed."""
    run("mount", "-o", "remount,bind,ro", "--", target)


def unmount(target: str) -> None:
    """Unmount everything at a path; does nothing when nothing is mounted there. Raises CommandFailed."""
    while at(target) is not None:
        run("umount", "--", target)


def unmount_device(target: str, path: str) -> None:
    """Unmount at a target what shows a device's filesystem or node, or those of a device that is no more; another mount
    there stays. Raises CommandFailed."""
    while (mounted := at(target)) is not None and (is_of(mounted, path) or _has_lost_its_device(mounted)):
        run("umount", "--", target)


def _has_lost_its_device(mount: Mount) -> bool:
    major, minor = _node(mount) or mount.device
    return major != 0 and not Path(f"/sys/dev/block/{major}:{minor}").exists()


def _parsed(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    _, _, device, root, target, options, *_ = before.split(" ")
    filesystem, source, *_ = after.split(" ")
    major, _, minor = device.partition(":")
    return Mount(
        device=(int(major), int(minor)),
        root=_unescaped(root),
        target=_unescaped(target),
        options=frozenset(options.split(",")),
        filesystem=filesystem,
        source=_unescaped(source),
    )


def _unescaped(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
