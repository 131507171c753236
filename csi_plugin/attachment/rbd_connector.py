"""os-brick's RBD connector, for a host that need not have Ceph's udev rule: a device is what the kernel names it.

os-brick looks for /dev/rbd/POOL/IMAGE, and maps the image once more where that is missing. Imports os-brick, so it is
imported only where that is needed.
"""

from typing import Any

from os_brick import utils as brick_utils
from os_brick.initiator.connectors.rbd import RBDConnector
from os_brick.privileged import rbd as privileged_rbd

from csi_plugin.attachment import rbd
from csi_plugin.attachment.errors import AttachmentError


class HostRBDConnector(RBDConnector):  # type: ignore[misc]
    """Maps an image once, and unmaps it wherever it is mapped."""

    def _local_attach_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        pool, image = connection_properties["name"].split("/")
        conf = self.create_non_openstack_config(connection_properties)
        try:
            devices = rbd.mapped_devices(connection_properties) or [self._map(connection_properties, pool, image, conf)]
        except Exception:
            if conf:
                privileged_rbd.delete_if_exists(conf)
            raise
        found = {"path": devices[0], "type": "block"}
        return {**found, "conf": conf} if conf else found

    def _map(self, properties: dict[str, Any], pool: str, image: str, conf: str | None) -> str:
        command = ["rbd", "map", image, "--pool", pool, *self._get_rbd_args(properties, conf)]
        printed, _ = self._execute(
            *command, *rbd.map_options(properties), root_helper=self._root_helper, run_as_root=True
        )
        devices = rbd.mapped_devices(properties)
        named = str(printed).strip()
        if not devices and not named.startswith("/dev/"):
            raise AttachmentError(f"rbd has mapped {pool}/{image} and the kernel shows no device of it: {named}")
        return devices[0] if devices else named

    @brick_utils.connect_volume_undo_prepare_result(unlink_after=True)  # type: ignore[untyped-decorator]
    def disconnect_volume(
        self,
        connection_properties: dict[str, Any],
        device_info: dict[str, Any] | None,
        force: bool = False,
        ignore_errors: bool = False,
    ) -> None:
        known = str(device_info["path"]) if device_info else ""
        conf = device_info.get("conf") if device_info else None
        arguments = self._get_rbd_args(connection_properties, conf)
        for device in rbd.mapped_devices(connection_properties, known=known):
            self._execute("rbd", "unmap", device, *arguments, root_helper=self._root_helper, run_as_root=True)
        if conf:
            privileged_rbd.delete_if_exists(conf)
