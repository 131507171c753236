"""device-mapper's multipath maps: which one is over a volume's paths, and whose the paths are."""

from collections.abc import Iterable

from csi_plugin.attachment import host_tables


def map_over(device_names: Iterable[str]) -> str | None:
    """The kernel's name of the multipath map that any of these disks is a path of; None when there is none.

    A disk may be held by more than a map, such as LUKS or a logical volume, which the host's udev has activated.
    """
    for name in device_names:
        for holder in (host_tables.named_folder(name) / "holders").glob("*"):
            if host_tables.multipath_name(holder.resolve()) is not None:
                return holder.name
    return None
