"""Filesystems that are frozen (fsfreeze): whatever would write to one waits in the kernel, and cannot be killed.

Who makes a backup freezes a filesystem and thaws it afterwards, unless that ends too early, or its pod does. A frozen
one that is unmounted lives on, keeps its device busy, and can be thawed only where it is mounted again.
"""

import contextlib
import logging
import time

from csi_plugin.attachment.programs import ProgramFailed, ProgramStuck, run
from csi_plugin.protocol.errors import RpcError, unavailable

LOG = logging.getLogger(__name__)

_SECONDS = 5
"""Neither program needs the storage."""
_POLL_SECONDS = 0.05
_NO_NAME = "x" * 300
"""Longer than names are in any filesystem, which is looked at only where writing is allowed: nothing is ever changed
by it."""


def check_thawed(mounted_at: str) -> None:
    """Raises UNAVAILABLE for a mounted filesystem that is frozen, and ProgramFailed."""
    try:
        run("rmdir", "--", f"{mounted_at}/{_NO_NAME}", allowed=(0, 1), timeout=_SECONDS)
    except ProgramStuck as error:
        raise unavailable(
            f"the filesystem at {mounted_at} is frozen, and takes no writes: fsfreeze --unfreeze {mounted_at} ends "
            f"that, unless its device is suspended (process {error.process_id} waits for it)"
        ) from error


def thaw(mounted_at: str) -> None:
    """Thaw a mounted filesystem that nobody uses any more, if it is frozen. Raises ProgramStuck."""
    try:
        run("fsfreeze", "--unfreeze", mounted_at, timeout=_SECONDS)
    except ProgramStuck:
        raise
    except ProgramFailed as error:
        LOG.debug("%s is not frozen: %s", mounted_at, error)
    else:
        LOG.warning("the filesystem at %s was frozen, and is thawed, as nobody uses it any more", mounted_at)
        _wait_for_others(mounted_at)


def _wait_for_others(mounted_at: str) -> None:
    """What has waited for it keeps the filesystem busy until it has ended."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(RpcError):
            check_thawed(mounted_at)
            break
        time.sleep(_POLL_SECONDS)
