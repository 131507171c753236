"""The host's own storage clients in place of the image's: a client has to suit the daemon of the host that it talks to.

iscsiadm 2.1.10 waits for ever for an iscsid 2.1.11, say. In the host's mount namespace runs the host's own, which needs
the host's process ids (chart: node.hostPrograms).
"""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from csi_plugin.attachment.programs import ProgramFailed, run, search_path

LOG = logging.getLogger(__name__)

_ENTER = ("nsenter", "--target", "1", "--mount", "--")
_COMPARED = ("iscsiadm",)
"""Those of which a version that differs from the daemon's has been seen to hang."""
_VERSION = re.compile(r"\d+\.\d+(\.\d+)*")
_SECONDS = 20


def use(names: Sequence[str], *, folder: Path) -> None:
    """Let this process and those that it starts run the host's programs of these names, by scripts in a folder.

    Says when the image's version of a program is not the host's. Nothing is done where the host cannot be entered.
    """
    own = {name: shutil.which(name, path=search_path(os.environ.get("PATH", ""))) for name in _COMPARED}
    if names:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in names:
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {" ".join(_ENTER)} {name} "$@"\n')
            script.chmod(0o755)
        os.environ["PATH"] = search_path(f"{folder}:{os.environ.get('PATH', '')}")
    if names or _sees_the_host():
        for name, path in own.items():
            _compare(name, path, is_hosts=name in names)


def _sees_the_host() -> bool:
    """Whether process 1 has another mount namespace, which is the host's then."""
    try:
        return Path("/proc/1/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return False


def _compare(name: str, path: str | None, *, is_hosts: bool) -> None:
    image = _version(path) if path else "none"
    host = _version(*_ENTER, name)
    if is_hosts:
        LOG.info("%s: the host's is used (%s; the image's is %s)", name, host, image)
    elif image != host:
        LOG.warning(
            "%s: the image's is %s, and the host's is %s; where they do not understand each other, let the host's be "
            "used (host_programs; chart: node.hostPrograms)",
            name,
            image,
            host,
        )


def _version(*command: str) -> str:
    try:
        found = _VERSION.search(run(*command, "--version", timeout=_SECONDS))
    except ProgramFailed as error:
        return f"not known ({error})"
    return found[0] if found else "not known"
