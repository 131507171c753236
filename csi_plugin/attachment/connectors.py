"""os-brick: its connectors, one for each protocol.

os-brick is imported inside functions alone, and by the *_connector modules that these import: it takes 36 to 84 MiB,
which neither the node nor a process that never attaches has to carry.
"""

import logging
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from csi_plugin.addresses import own_address
from csi_plugin.attachment import multipath as multipath_maps
from csi_plugin.attachment import scsi
from csi_plugin.attachment.brick_runtime import prepare_os_brick

LOG = logging.getLogger(__name__)

DEFAULT_SCAN_ATTEMPTS = 3
_ISCSI_TRANSPORTS = {"iscsi": "default", "iser": "iser"}
"""os-brick's names of what carries iSCSI, by protocol."""
_NVME = ("nvme", "nvmeof")


def connector_for(
    connection_info: dict[str, Any], *, multipath: bool, root_helper: str, scan_attempts: int = DEFAULT_SCAN_ATTEMPTS
) -> Any:
    """os-brick's connector for the protocol of a connection (``driver_volume_type``)."""
    prepare_os_brick()
    from os_brick.initiator import connector

    arguments = {
        "use_multipath": multipath,
        "device_scan_attempts": scan_attempts,
        "conn": connection_info,
        "do_local_attach": True,
    }
    protocol = str(connection_info["driver_volume_type"]).lower()
    if protocol in _ISCSI_TRANSPORTS:
        from csi_plugin.attachment.iscsi_connector import HostISCSIConnector

        found = HostISCSIConnector(root_helper, transport=_ISCSI_TRANSPORTS[protocol], **arguments)
    elif protocol == "rbd":
        from csi_plugin.attachment.rbd_connector import HostRBDConnector

        found = HostRBDConnector(root_helper, **arguments)
    elif protocol == "fibre_channel" and not platform.machine().startswith("s390"):
        from csi_plugin.attachment.fibre_channel_connector import HostFibreChannelConnector

        found = HostFibreChannelConnector(root_helper, **arguments)
    elif protocol in _NVME:
        from csi_plugin.attachment.nvme_connector import HostNVMeConnector

        found = HostNVMeConnector(root_helper, **arguments)
    else:
        found = connector.InitiatorConnector.factory(protocol, root_helper, **arguments)
    if hasattr(found, "_linuxscsi"):
        # os-brick takes any device-mapper device over a disk for a multipath map: LUKS, and the logical volumes in it.
        found._linuxscsi.find_sysfs_multipath_dm = multipath_maps.map_over
        found._linuxscsi.flush_device_io = _flush_unless_given_up(found._linuxscsi.flush_device_io)
    return found


def _flush_unless_given_up(flush: Callable[[str], None]) -> Callable[[str], None]:
    """What its last user could not write to such a device is gone, and the device could not be removed for ever."""

    def flush_if_possible(device_path: str) -> None:
        if Path(device_path).exists() and scsi.is_given_up(device_path):
            LOG.warning("%s is removed without a flush, since its storage has long not answered", device_path)
        else:
            flush(device_path)

    return flush_if_possible


def connector_properties(
    *, multipath: bool = False, enforce_multipath: bool = False, my_ip: str | None = None, root_helper: str = "sudo"
) -> dict[str, Any]:
    """os-brick's connector properties of this host: initiator names, addresses, what it can do."""
    prepare_os_brick()
    from os_brick.initiator import connector

    properties: dict[str, Any] = connector.get_connector_properties(
        root_helper, my_ip or own_address(), multipath, enforce_multipath
    )
    return properties


def rescan_fibre_channel(connector: Any, data: dict[str, Any]) -> None:
    """Let the host's adapters look for the paths of a volume; nothing that is there changes."""
    properties = connector._add_targets_to_connection_properties(data)
    connector._linuxfc.rescan_hosts(connector._linuxfc.get_fc_hbas_info(), properties)
