"""Which paths to a block device work: of a multipath map, and of the kernel's own multipath over NVMe."""

from pathlib import Path

from csi_plugin.attachment import host_tables

_WORKING = ("running", "live", "")
_ANA_WORKING = ("optimized", "non-optimized", "")
"""What a storage says of a path over which I/O goes; else it waits for another, though the controller is live."""


def usable_paths(device_path: str) -> int:
    """How many paths of a device over several neither the kernel nor the storage has given up. Raises OSError."""
    folder = host_tables.device_folder(device_path)
    if host_tables.is_nvme_head(folder):
        return sum(is_usable(path, controller=path.parent) for path in host_tables.nvme_paths(folder))
    return sum(
        host_tables.scsi_or_nvme_state(path) in _WORKING and host_tables.ana_state(path) in _ANA_WORKING
        for path in host_tables.lower_devices(folder)
    )


def is_usable(path: Path, *, controller: Path) -> bool:
    """Whether I/O goes over the path that an NVMe controller is, or has to a device; from their folders."""
    return host_tables.controller_state(controller) == "live" and host_tables.ana_state(path) in _ANA_WORKING


def describe(device_path: str) -> str:
    """A block device and its state in words: what the kernel says of it, and of the paths to it."""
    try:
        folder = host_tables.device_folder(device_path)
        usable = usable_paths(device_path)
    except OSError:
        return f"device {device_path} has gone"
    if not folder.is_dir():
        return f"device {device_path} has gone"
    said = []
    if host_tables.multipath_name(folder) is not None:
        said.append(f"a multipath map, {usable} of {len(host_tables.lower_devices(folder))} paths usable")
    elif host_tables.is_nvme_head(folder):
        said.append(f"over NVMe, {usable} of {len(host_tables.nvme_paths(folder))} paths usable")
    elif state := host_tables.scsi_or_nvme_state(folder):
        said.append(state)
    if host_tables.is_suspended(folder):
        said.append("suspended (dmsetup resume)")
    return f"device {device_path}" + (f" is {', '.join(said)}" if said else "")
