"""What the host has built on a volume's device by itself: a raw volume may have LVM, md or partitions inside, which
udev activates as it sees them, and which then keep the device from being removed.
"""

from collections.abc import Iterable
from pathlib import Path

from csi_plugin.attachment import device_use, host_tables
from csi_plugin.attachment.programs import run

_LVM, _PARTITION = "LVM-", "part"
"""How the device-mapper UUIDs begin of logical volumes, and of partitions of multipath maps."""


def blockers(device_path: str, *, own: Iterable[str] = ()) -> list[str]:
    """What is built on a device and cannot be taken away, with the reason. Nothing is changed.

    ``own``: paths of devices that the caller takes away itself, such as a decrypted one. Raises ProgramFailed.
    """
    base, found = _built_on(device_path, own)
    return [f"{_name(folder)} ({reason})" for folder in found if (reason := _reason(folder, base))]


def release(device_path: str, *, own: Iterable[str] = ()) -> None:
    """Deactivate the logical volumes, arrays and partitions' maps that are built on a device. Data stays as it is.

    Only after blockers() has found nothing. Raises ProgramFailed for what has come into use since.
    """
    _, found = _built_on(device_path, own)
    for folder in reversed(found):  # what is on top first
        if (folder / "md").is_dir():
            run("mdadm", "--stop", f"/dev/{folder.name}")
        elif (folder / "dm").is_dir():
            run("dmsetup", "remove", "--retry", _name(folder))


def _built_on(device_path: str, own: Iterable[str]) -> tuple[set[Path], list[Path]]:
    """The folders of a device, its paths and the caller's own; and of what is built on them, from below."""
    folder = host_tables.device_folder(device_path)
    base = {folder, *host_tables.lower_devices(folder)}
    for path in own:
        if Path(path).exists():
            base.add(host_tables.device_folder(path))
    found = [one for one in device_use.with_upper_devices(sorted(base)) if one not in base]
    # Partitions of a disk go with it.
    return base, [one for one in sorted(found, key=_height) if not (one / "partition").exists()]


def _height(folder: Path) -> int:
    """How many devices there are below one."""
    return len(_all_below(folder))


def _all_below(folder: Path) -> set[Path]:
    """The folders of all devices below one, and below these; of a partition, its disk."""
    below = set(host_tables.lower_devices(folder))
    if (folder / "partition").exists():
        below.add(folder.parent)
    return below.union(*(_all_below(one) for one in below)) if below else below


def _reason(folder: Path, base: set[Path]) -> str:
    """Why a device cannot be taken away; empty when it can."""
    number = host_tables.number_of(folder)
    if number and (mounts := device_use.mounts_of({number})):
        return f"mounted at {mounts[0].target}"
    foundations = {one for one in _all_below(folder) if not host_tables.lower_devices(one)}
    known = base.union(*(_all_below(one) for one in base))
    if outside := {one for one in foundations if one not in known and one.parent not in known}:
        return f"also on {', '.join(sorted(one.name for one in outside))}"
    if (folder / "md").is_dir():
        # What is built on it, which is looked at by itself, keeps others from having it.
        return "in use" if not _has_upper(folder) and device_use.is_held(f"/dev/{folder.name}") else ""
    uuid = host_tables.dm_uuid(folder)
    if not uuid.startswith((_LVM, _PARTITION)):
        return "in use"
    return "open" if _count_openers(folder) > len(list((folder / "holders").glob("*"))) else ""


def _has_upper(folder: Path) -> bool:
    """Whether something other than partitions is built on a device."""
    return any(one != folder and not (one / "partition").exists() for one in device_use.with_upper_devices([folder]))


def _count_openers(folder: Path) -> int:
    """How often a device-mapper device is open, by those that are built on it, too."""
    text = run("dmsetup", "info", "--columns", "--noheadings", "--options", "open", _name(folder))
    return int(text.strip() or 0)


def _name(folder: Path) -> str:
    return host_tables.dm_name(folder) or folder.name
