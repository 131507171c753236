"""Whether a mount failed for its flags, which mount(8) does not tell from a filesystem that is broken."""

import re
from collections.abc import Sequence

from csi_plugin.attachment.programs import ProgramFailed
from csi_plugin.node import mounts
from csi_plugin.protocol.errors import invalid_argument

_PERHAPS_FLAGS = re.compile(r"bad option|fsconfig", re.IGNORECASE)
"""What mount(8) says of EINVAL; since 2.39 with the kernel's own words."""
_NO_RECOVERY = re.compile(r"noload|norecovery|nologreplay|(rescue=.*)")
"""Flags that let a filesystem be mounted that cannot be mounted without them."""


def check(
    error: ProgramFailed, device_path: str, target: str, filesystem: str, flags: Sequence[str], *, read_only: bool
) -> None:
    """INVALID_ARGUMENT, naming the flags, where a mount failed only for the CO's; otherwise nothing."""
    if not flags or not _PERHAPS_FLAGS.search(error.output):
        return
    needed = [flag for flag in flags if _NO_RECOVERY.fullmatch(flag)]

    def works(*tried: str) -> bool:
        # Without recovery nothing may be written; what the flag itself is refused for without "ro" is seen by that.
        options = mounts.with_needed_options(
            device_path, filesystem, [*needed, *tried], read_only=read_only or bool(needed)
        )
        return mounts.can_mount(device_path, target, filesystem=filesystem, options=options)

    if not works():
        return
    # None does by itself where two of them contradict each other.
    refused = [flag for flag in flags if flag not in needed and not works(flag)] or flags
    raise invalid_argument(
        f"volume_capability.mount.mount_flags: mount refused {', '.join(refused)} for the {filesystem}, which can be "
        f"mounted without: correct the PersistentVolume's mountOptions, and for new volumes the StorageClass' ({error})"
    ) from error
