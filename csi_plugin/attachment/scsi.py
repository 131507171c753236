"""SCSI devices, which say who they are only when asked, and the kernel asks once.

A storage may give a unit's number to another volume while a host still has a device of that number, left over from an
unstage that a crash cut short, say. Its data is the new volume's then, its name and size those of the old one.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from csi_plugin.attachment.commands import run

_NAMED_IN_FULL = {"naa": "3", "eui": "2"}
"""First character of a multipath map's name by the kind of its paths' names."""


class OtherVolume(Exception):
    """The device is not one volume's alone. gRPC: FAILED_PRECONDITION."""


def ask_again(path: str, *, root_helper: Sequence[str] = ()) -> None:
    """Let the kernel read name and size of a SCSI device, or of the paths of a multipath map, from the storage.

    Does nothing with other devices. ``root_helper``: words before a command that needs root. Raises OtherVolume when
    the paths of a map are not its volume's, and CommandFailed.
    """
    folder = sysfs(path)
    devices = [device for device in _paths(folder) if (device / "device/rescan").exists()]
    for device in devices:
        run(*root_helper, "tee", str(device / "device/rescan"), stdin=b"1")
    names = {device.name: _name(device) for device in devices}
    wanted = name_of_map(folder)
    if wanted is not None and any(name.partition(".")[0] in _NAMED_IN_FULL for name in names.values()):
        others = [device for device, name in names.items() if _as_map_names(name) != wanted]
        if others:
            raise OtherVolume(
                f"{path} is the multipath map {wanted}, and its paths {', '.join(sorted(others))} lead to another "
                "volume by now; remove the map (multipath -f) when nothing uses it"
            )


def sysfs(path: str) -> Path:
    """The kernel's folder of a block device."""
    number = Path(path).stat().st_rdev
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()


def _paths(folder: Path) -> list[Path]:
    below = [entry.resolve() for entry in (folder / "slaves").glob("*")]
    return below or [folder]


def _name(folder: Path) -> str:
    try:
        return (folder / "device/wwid").read_text().strip()
    except OSError:
        return ""


def name_of_map(folder: Path) -> str | None:
    """The name of its volume that a multipath map has, from its folder in sysfs; None for any other device."""
    try:
        uuid = (folder / "dm/uuid").read_text().strip()
    except OSError:
        return None
    return uuid.removeprefix("mpath-") if uuid.startswith("mpath-") else None


def _as_map_names(name: str) -> str:
    kind, _, rest = name.partition(".")
    return _NAMED_IN_FULL.get(kind, "") + rest
