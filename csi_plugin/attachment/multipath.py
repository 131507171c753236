"""device-mapper's multipath maps: which one is over a volume's paths, and whose the paths are."""

import logging
import re
from collections.abc import Iterable

from csi_plugin.attachment import host_tables
from csi_plugin.attachment.programs import ProgramFailed, run

LOG = logging.getLogger(__name__)

_PATH_STATE = re.compile(r" \d+:\d+ ([AF]) ")
_FAILED = "F"


def end_queueing(device_path: str) -> None:
    """Let I/O to a map without usable paths fail, not wait for paths that will not come. Raises ProgramFailed."""
    name = host_tables.dm_name(host_tables.device_folder(device_path))
    try:
        run("multipathd", "disablequeueing", "map", name, timeout=20)  # which would let it wait again
    except ProgramFailed as error:
        LOG.debug("multipathd: %s", error)
    run("dmsetup", "message", name, "0", "fail_if_no_path", timeout=20)


def names_without_paths() -> set[str]:
    """device-mapper's names of the maps all of whose paths have failed. The kernel may have their disks in order: a
    storage that has taken a volume from this host goes on to answer, with errors.

    One call of a program for all maps; none where that fails.
    """
    try:
        lines = run("dmsetup", "status", "--target", "multipath", timeout=20).splitlines()
    except ProgramFailed as error:
        LOG.warning("which multipath maps have no paths is not known: %s", error)
        return set()
    states = {name: set(_PATH_STATE.findall(f"{rest} ")) for name, _, rest in (line.partition(": ") for line in lines)}
    return {name for name, found in states.items() if found == {_FAILED}}


def remove(device_path: str) -> None:
    """Remove a map; its paths stay. Raises ProgramFailed for one that is in use."""
    run("multipath", "-f", host_tables.dm_name(host_tables.device_folder(device_path)))


def resize(device_path: str) -> None:
    """Let a map have the new size of its paths. Raises ProgramFailed."""
    run("multipathd", "resize", "map", host_tables.dm_name(host_tables.device_folder(device_path)))


def is_running() -> bool:
    """Whether this host has a multipathd."""
    try:
        return not run("multipathd", "show", "status", timeout=20).startswith("error")
    except ProgramFailed:
        return False


def map_over(device_names: Iterable[str]) -> str | None:
    """The kernel's name of the multipath map that any of these disks is a path of; None when there is none.

    A disk may be held by more than a map, such as LUKS or a logical volume, which the host's udev has activated.
    """
    for name in device_names:
        for holder in (host_tables.named_folder(name) / "holders").glob("*"):
            if host_tables.multipath_name(holder.resolve()) is not None:
                return holder.name
    return None
