"""The host's own storage clients in place of the image's: a client has to suit the daemon of the host that it talks to.

iscsiadm 2.1.10 waits for ever for an iscsid 2.1.11, say. In the host's mount namespace runs the host's own, which needs
the host's process ids (chart: node.hostPrograms).
"""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csi_plugin.attachment.programs import ProgramFailed, run, search_path

LOG = logging.getLogger(__name__)

_ENTER = ("nsenter", "--target", "1", "--mount", "--")
_COMPARED = ("iscsiadm",)
"""Those of which a version that differs from the daemon's has been seen to hang."""
_VERSION = re.compile(r"\d+\.\d+(\.\d+)*")
_SECONDS = 20
_HOST_FOLDER = Path("/host-sbin")
"""Where the chart shows the host's /usr/sbin, for nothing but this."""
_DAEMONS = {"iscsiadm": "iscsid"}
_VERSION_IN_DAEMON = re.compile(rb"# BEGIN RECORD (\d[\w.]*)")
"""What iscsid writes at the beginning of its records."""
_HOST_ROOT = Path("/proc/1/root")
_UNKNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Of a client that this process runs, and of the host's; with the reason where one is not known."""

    own: str
    host: str

    @property
    def differ(self) -> bool:
        known = not self.own.startswith(_UNKNOWN) and not self.host.startswith(_UNKNOWN)
        return known and self.own != self.host


def use(names: Sequence[str], *, folder: Path) -> None:
    """Let this process and those that it starts run the host's programs of these names, by scripts in a folder.

    Says when the image's version of a program is not the host's, and when that cannot be told.
    """
    found = {name: versions(name, is_host_entered=bool(names)) for name in _COMPARED}
    if names:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in names:
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {" ".join(_ENTER)} {name} "$@"\n')
            script.chmod(0o755)
        os.environ["PATH"] = search_path(f"{folder}:{os.environ.get('PATH', '')}")
    for name, versions_found in found.items():
        _say(name, versions_found, is_hosts=name in names)


def versions(name: str, *, is_host_entered: bool = False) -> Versions:
    """The versions of one of the programs that have to be the host's daemon's.

    ``is_host_entered``: whether the host is known to be seen, not to be looked whether it is.
    """
    path = shutil.which(name, path=search_path(os.environ.get("PATH", "")))
    own = _version(path) if path else "none"
    if is_host_entered or _sees_the_host():
        return Versions(own=own, host=_version(*_ENTER, name))
    daemon = _HOST_FOLDER / _DAEMONS[name]
    try:
        found = _VERSION_IN_DAEMON.search(daemon.read_bytes())
    except OSError:
        return Versions(own=own, host=f"{_UNKNOWN} (no {daemon}, and no process of the host is seen)")
    return Versions(own=own, host=found[1].decode() if found else f"{_UNKNOWN} ({daemon} does not tell)")


def host_root() -> Path | None:
    """Where the host's files are; None in a container that does not see them."""
    if _sees_the_host():
        return _HOST_ROOT
    return None if "KUBERNETES_SERVICE_HOST" in os.environ else Path("/")


def _sees_the_host() -> bool:
    """Whether process 1 has another mount namespace, which is the host's then."""
    try:
        return Path("/proc/1/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return False


def _say(name: str, found: Versions, *, is_hosts: bool) -> None:
    if is_hosts:
        LOG.info("%s: the host's is used (%s; the image's is %s)", name, found.host, found.own)
    elif found.differ:
        LOG.warning(
            "%s: the image's is %s, and the host's is %s; where they do not understand each other, let the host's be "
            "used (host_programs; chart: node.hostPrograms)",
            name,
            found.own,
            found.host,
        )
    else:
        LOG.info("%s: the image's is %s, the host's %s", name, found.own, found.host)


def _version(*command: str) -> str:
    try:
        found = _VERSION.search(run(*command, "--version", timeout=_SECONDS))
    except ProgramFailed as error:
        return f"{_UNKNOWN} ({error})"
    return found[0] if found else _UNKNOWN
