"""os-brick: its connectors, one for each protocol, and what they need of the process that they run in.

os-brick is imported inside functions alone, and by the *_connector modules that these import: it takes 36 to 84 MiB,
which neither the node nor a process that never attaches has to carry.
"""

import contextlib
import logging
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from csi_plugin.addresses import own_address
from csi_plugin.attachment import multipath as multipath_maps
from csi_plugin.attachment import scsi
from csi_plugin.attachment.waiting import waiting

LOG = logging.getLogger(__name__)

DEFAULT_SCAN_ATTEMPTS = 3
_ISCSI_TRANSPORTS = {"iscsi": "default", "iser": "iser"}
"""os-brick's names of what carries iSCSI, by protocol."""


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


def connected_nvme_devices(connection_info: dict[str, Any]) -> list[str]:
    """Paths of the devices through which this host has the volume of an NVMe connection."""
    prepare_os_brick()
    from os_brick.initiator.connectors.nvmeof import NVMeOFConnProps

    return list(NVMeOFConnProps(connection_info["data"], find_controllers=True).get_devices())


@contextlib.contextmanager
def alone_on_host() -> Iterator[None]:
    """Be the only one that connects or disconnects volumes of protocols for which os-brick takes one at a time."""
    prepare_os_brick()
    from oslo_concurrency import lockutils
    from oslo_config import cfg

    with contextlib.ExitStack() as held:
        with waiting():
            path = cfg.CONF.os_brick.lock_path
            held.enter_context(lockutils.lock("connect_volume", "os-brick-", external=True, lock_path=path))
        yield


def locks_folder() -> str:
    """Where lock files are, which everything shares that attaches volumes on this host."""
    prepare_os_brick()
    from oslo_config import cfg

    return str(cfg.CONF.os_brick.lock_path)


def rescan_fibre_channel(connector: Any, data: dict[str, Any]) -> None:
    """Let the host's adapters look for the paths of a volume; nothing that is there changes."""
    properties = connector._add_targets_to_connection_properties(data)
    connector._linuxfc.rescan_hosts(connector._linuxfc.get_fc_hbas_info(), properties)


def preload_os_brick() -> None:
    """Import all that connectors use, so that forks of this process share it, and its memory."""
    prepare_os_brick()
    import os_brick.initiator.connector
    import os_brick.initiator.connectors.iscsi  # noqa: F401


def prepare_os_brick() -> None:
    """Privileged code runs in this process when it is root's; a process that set os-brick up already stays as it is.

    In the node's attachment process, oslo.concurrency takes the folder of lock files from OSLO_LOCK_PATH.
    """
    from oslo_service import backend

    if backend.get_backend_type() is None:
        # Before os-brick's libraries look for eventlet. The library, or a service of Cinder's own, has chosen already.
        backend.init_backend(backend.BackendType.THREADING)
    import os_brick
    import os_brick.privileged
    from oslo_concurrency import lockutils  # noqa: F401 - it defines the option that os-brick's is set from
    from oslo_config import cfg

    _tell_of_waiting()
    if os.geteuid() == 0:
        os_brick.privileged.default.set_client_mode(False)
        os_brick.privileged.brick_privsep_hide_output.set_client_mode(False)
    if not cfg.CONF.os_brick.lock_path:
        os_brick.setup(cfg.CONF)


def _tell_of_waiting() -> None:
    """Let os-brick's connectors say when they wait for one another."""
    from os_brick.initiator.connectors import base
    from oslo_concurrency import lockutils

    @contextlib.contextmanager
    def lock(*arguments: Any, **options: Any) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            with waiting():
                held.enter_context(lockutils.lock(*arguments, **options))
            yield

    base.lockutils = types.SimpleNamespace(lock=lock, AcquireLockFailedException=lockutils.AcquireLockFailedException)
