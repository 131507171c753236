"""How a volume may be mounted: filesystems and flags, by one set of rules for controller and node."""

import re
from collections.abc import Iterable

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import invalid_argument
from csi_plugin.protocol.mkfs_options import FILESYSTEMS

# What mount(8) would read as more than a flag: a comma starts another one.
_FLAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=/+@%-]*")

_CONTEXTS = ("context", "fscontext", "defcontext", "rootcontext")
"""SELinux' flags of mount(8), whose values are labels."""
_LABEL = r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+){2,}"
_QUOTED_LABEL = r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.,-]+){2,}"
"""user:role:type, and most often a level. Commas are between a level's categories, so kubelet puts quotes around it."""
_CONTEXT = re.compile(rf"""({"|".join(_CONTEXTS)})=(?:({_LABEL})|"({_QUOTED_LABEL})")""")

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
    _check_contexts(mount.mount_flags, field=field)
    for flag in mount.mount_flags:
        if _is_context(flag):
            continue
        if not _FLAG.fullmatch(flag):
            raise invalid_argument(f"{field}.mount_flags: {flag!r} is not a mount flag")
        if reason := _refusal(flag):
            raise invalid_argument(f"{field}.mount_flags: {flag!r} is not allowed, since it stands for {reason}")


def is_read_only(flags: Iterable[str]) -> bool:
    """Whether mount(8) would mount read-only: the last of ``ro`` and ``rw`` counts."""
    return ([flag for flag in flags if flag in ("ro", "rw")] or ["rw"])[-1] == "ro"


def contexts(flags: Iterable[str]) -> dict[str, str]:
    """The SELinux labels among mount flags, by the name of their option."""
    return {match[1]: match[2] or match[3] for flag in flags if (match := _CONTEXT.fullmatch(flag))}


def _is_context(flag: str) -> bool:
    return flag.partition("=")[0] in _CONTEXTS


def _check_contexts(flags: Iterable[str], *, field: str) -> None:
    found = [flag for flag in flags if _is_context(flag)]
    for flag in found:
        if not _CONTEXT.fullmatch(flag):
            raise invalid_argument(
                f"{field}.mount_flags: {flag!r} must be an SELinux label, as in "
                'context="system_u:object_r:container_file_t:s0:c15,c25"'
            )
    if len(found) > len(contexts(found)):
        raise invalid_argument(f"{field}.mount_flags: one of {', '.join(_CONTEXTS)} is given twice")


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
