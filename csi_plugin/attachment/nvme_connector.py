"""os-brick's NVMe connector, for a host on which volumes are in use while others come and go.

os-brick waits for portals that are dead, takes down the controllers of a volume whose connecting fails, and leaves
those of one whose device has gone. Imports os-brick, so it is imported only where that is needed.
"""

import logging
from pathlib import Path
from typing import Any

from os_brick import utils as brick_utils
from os_brick.initiator.connectors.nvmeof import NVMeOFConnector, NVMeOFConnProps, Portal

from csi_plugin.attachment import brick_runtime, device_use, host_tables, nvme, nvme_paths

LOG = logging.getLogger(__name__)


class HostNVMeConnector(NVMeOFConnector):  # type: ignore[misc]
    """Of os-brick's interface it has connect_volume, disconnect_volume and extend_volume."""

    def disks(self, data: dict[str, Any]) -> list[str]:
        """The kernel's names of the disks that are where the volume is."""
        paths = brick_runtime.connected_nvme_devices(nvme.as_the_kernel_writes(data))
        return [host_tables.device_folder(path).name for path in sorted(paths) if Path(path).exists()]

    def connect_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        """As os-brick's, without portals that do not answer, and leaving what is in use when it fails."""
        properties = nvme_paths.reachable(nvme.as_the_kernel_writes(connection_properties))
        self._is_connecting = True
        try:
            found: dict[str, Any] = super().connect_volume(properties)
        finally:
            self._is_connecting = False
        return found

    # Outermost, as os-brick asks: it puts back the device's path that connecting has changed.
    @brick_utils.connect_volume_undo_prepare_result(unlink_after=True)  # type: ignore[untyped-decorator]
    def disconnect_volume(
        self,
        connection_properties: dict[str, Any],
        device_info: dict[str, Any] | None,
        force: bool = False,
        ignore_errors: bool = False,
    ) -> None:
        """As os-brick's; of a volume whose device has gone, too."""
        properties = nvme.as_the_kernel_writes(connection_properties)
        # A copy: os-brick changes what it is given.
        super().disconnect_volume(
            nvme.as_the_kernel_writes(properties), device_info, force=force, ignore_errors=ignore_errors
        )
        if device_info is None or not Path(str(device_info["path"])).exists():
            with brick_runtime.alone_on_host():
                self._disconnect_empty(properties)

    def extend_volume(self, connection_properties: dict[str, Any]) -> Any:
        return super().extend_volume(nvme.as_the_kernel_writes(connection_properties))

    def _disconnect_empty(self, properties: dict[str, Any]) -> None:
        """Disconnect controllers of the volume's that show no disk: they would try to come back for ever."""
        for target in NVMeOFConnProps(properties, find_controllers=True).targets:
            for portal in target.portals:
                if portal.controller and not portal.get_all_namespaces_ctrl_paths():
                    self._try_disconnect(portal)

    def _try_disconnect(self, portal: Portal) -> None:
        if getattr(self, "_is_connecting", False) and _is_in_use(portal):
            LOG.warning("connecting has failed; the disks over %s are in use, and it stays", portal)
            return
        super()._try_disconnect(portal)


def _is_in_use(portal: Portal) -> bool:
    names = [nvme.device_name(Path(path).name) for path in portal.get_all_namespaces_ctrl_paths()]
    return device_use.is_in_use([host_tables.named_folder(name) for name in names])
