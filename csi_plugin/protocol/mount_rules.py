"""How a volume may be mounted: filesystems and flags, by one set of rules for controller and node."""

import re
from collections.abc import Iterable

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import invalid_argument
from csi_plugin.protocol.mkfs_options import FILESYSTEMS

# What mount(8) would read as more than a flag: a comma starts another one.
_FLAG = re.compile(r"[A-Za-z0-9_.:=/+@%-]+")

_WHY = {
    "another mount than that of the volume's filesystem": (
        *("loop", "offset", "sizelimit", "encryption"),
        *("bind", "rbind", "move", "rmove", "remount", "abort", "sb", "subvol", "subvolid"),
        *("shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable"),
    ),
    "another device or file": (
        *("device", "journal_dev", "journal_path", "logdev", "rtdev", "source", "target", "fstab"),
        *("usrjquota", "grpjquota", "keyfile", "pass-fd"),
    ),
    "another program that mounts or unmounts": ("helper", "uhelper"),
    "rules of /etc/fstab, which do not count here": ("user", "users", "owner", "group", "nofail"),
}
_REFUSED = {name: why for why, names in _WHY.items() for name in names}
_REFUSED_PREFIXES = {
    "x-": "mount's own work around a mount",
    "make-": "how mounts spread",
    "verity": "another device or file",
}
_REFUSED_VALUES = {("errors", "panic"), ("fatal_errors", "panic")}


def check_mount(mount: csi_pb2.VolumeCapability.MountVolume, *, field: str) -> None:
    """Raises INVALID_ARGUMENT for what no node would mount."""
    if mount.fs_type and mount.fs_type not in FILESYSTEMS:
        raise invalid_argument(f"{field}.fs_type must be one of {', '.join(FILESYSTEMS)}, not {mount.fs_type!r}")
    if mount.volume_mount_group:
        raise invalid_argument(f"{field}.volume_mount_group is not supported: the CO applies fsGroup")
    for flag in mount.mount_flags:
        if not _FLAG.fullmatch(flag):
            raise invalid_argument(f"{field}.mount_flags: {flag!r} is not a mount flag")
        if reason := _refusal(flag):
            raise invalid_argument(f"{field}.mount_flags: {flag!r} is not allowed, since it stands for {reason}")


def is_read_only(flags: Iterable[str]) -> bool:
    """Whether mount(8) would mount read-only: the last of ``ro`` and ``rw`` counts."""
    return ([flag for flag in flags if flag in ("ro", "rw")] or ["rw"])[-1] == "ro"


def _refusal(flag: str) -> str:
    """What a flag stands for that no volume may have; empty for others."""
    name, equals, value = flag.partition("=")
    name = name.lower()
    if (name, value) in _REFUSED_VALUES:
        return "a node that stops because of one volume"
    if name in ("ro", "rw") and equals:
        return "a mount that is read-only in part; use ro"
    prefixes = (why for prefix, why in _REFUSED_PREFIXES.items() if name.startswith(prefix))
    return _REFUSED.get(name) or next(prefixes, "")
