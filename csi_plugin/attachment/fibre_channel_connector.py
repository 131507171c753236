"""os-brick's Fibre Channel connector, for a host whose udev may be slow, or have stopped.

os-brick takes a disk by udev's name for port and unit. A link that udev has not taken away yet leads to what the kernel
has given the disk's name to: it counts as none here. Imports os-brick, so it is imported only where that is needed.
"""

from typing import Any

from os_brick.initiator.connectors.fibre_channel import FibreChannelConnector

from csi_plugin.attachment import fibre_channel


class HostFibreChannelConnector(FibreChannelConnector):  # type: ignore[misc]
    """Takes and removes disks that are behind a port of the volume's, at its unit, as the kernel tells."""

    def disks(self, data: dict[str, Any]) -> list[str]:
        """The kernel's names of the disks that are where the volume is."""
        return fibre_channel.disks(data)

    def add_to_map(self, device_path: str) -> None:
        """Tell multipathd of a disk that is a path of a map that it has; it may know already."""
        self._linuxscsi.multipath_add_path(device_path)

    def check_valid_device(self, path: str, *rest: Any, **options: Any) -> bool:
        return fibre_channel.is_named_rightly(path) and bool(super().check_valid_device(path, *rest, **options))

    def get_volume_paths(self, connection_properties: dict[str, Any]) -> list[str]:
        found: list[str] = super().get_volume_paths(connection_properties)
        return [path for path in found if fibre_channel.is_named_rightly(path)]
