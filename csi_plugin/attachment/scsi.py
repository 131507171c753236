"""SCSI devices, which say who they are only when asked, and the kernel asks once.

A storage may give a unit's number to another volume while a host still has a device of that number, which an unstage
that a crash cut short has left, say. Its data is the new volume's then, its name and size those of the old one.
"""

from collections.abc import Sequence
from pathlib import Path

from csi_plugin.attachment import host_tables
from csi_plugin.attachment.errors import OtherVolume
from csi_plugin.attachment.programs import run

_NAMED_IN_FULL = {"naa": "3", "eui": "2"}
"""First character of a multipath map's name by the kind of its paths' names."""

_GIVEN_UP = ("offline", "transport-offline")


def rescan(device_path: str, *, root_helper: Sequence[str] = ()) -> None:
    """Let the kernel read name and size of a SCSI device, or of the paths of a multipath map, from the storage.

    Does nothing with other devices. ``root_helper``: words before a command that needs root. Raises OtherVolume when
    the paths of a map are not its volume's, and ProgramFailed.
    """
    folder = host_tables.device_folder(device_path)
    devices = {
        device: rescan_file
        for device in host_tables.lower_devices(folder) or [folder]
        if (rescan_file := host_tables.rescan_file(device))
    }
    for rescan_file in devices.values():
        run(*root_helper, "tee", str(rescan_file), stdin=b"1")
    names = {device.name: host_tables.scsi_name(device) for device in devices}
    map_name = host_tables.multipath_name(folder)
    if map_name is not None and (others := paths_of_others(map_name, names)):
        raise OtherVolume(
            f"{device_path} is the multipath map {map_name}, and its paths {', '.join(others)} lead to another "
            "volume by now; remove the map (multipath -f) when nothing uses it"
        )


def switch(folder: Path, *, on: bool) -> None:
    """Let the kernel use a disk again that its error handling has switched off, or not any more; by the disk's folder.

    Raises ProgramFailed.
    """
    run("tee", str(folder / "device/state"), stdin=b"running" if on else b"offline")


def is_given_up(device_path: str) -> bool:
    """Whether the kernel lets nobody open a SCSI device any more, since its storage has long not answered."""
    return host_tables.scsi_or_nvme_state(host_tables.device_folder(device_path)) in _GIVEN_UP


def paths_of_others(map_name: str, names: dict[str, str]) -> list[str]:
    """The paths of a multipath map that lead to another volume than the map's; ``names``: SCSI name by path.

    None where no path has a name of the kind that maps are named by, as with names that a vendor chose.
    """
    if not any(name.partition(".")[0] in _NAMED_IN_FULL for name in names.values()):
        return []
    return sorted(path for path, name in names.items() if _name_as_map(name) != map_name)


def disks_of_others(identity: str, names: dict[str, str]) -> list[str]:
    """Which disks are not paths of a device of that identity; ``names``: SCSI name by disk.

    None where the identity is not one that SCSI disks tell.
    """
    kind, _, name = identity.partition(" ")
    if kind == "device/wwid":
        return sorted(disk for disk, found in names.items() if found and found != name)
    if kind == "dm/uuid" and name.startswith("mpath-"):
        return paths_of_others(name.removeprefix("mpath-"), {disk: found for disk, found in names.items() if found})
    return []


def _name_as_map(name: str) -> str:
    kind, _, rest = name.partition(".")
    return _NAMED_IN_FULL.get(kind, "") + rest
