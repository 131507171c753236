"""Volumes that the controller has taken from this node while it could not be reached, and that are still in use here.

Their I/O may wait for paths that never come: a multipath map keeps it, and so does the kernel's NVMe initiator. Whoever
waits cannot be killed, and keeps the volume from being unmounted.
"""

import logging

from csi_plugin.attachment import host_tables, multipath, nvme_paths
from csi_plugin.node.context import NodeContext
from csi_plugin.node.volume_state import VolumeState

LOG = logging.getLogger(__name__)


def is_waiting(state: VolumeState) -> bool:
    """Whether I/O to a volume waits for paths, of which it has none that is usable."""
    try:
        path = _path(state)
        if host_tables.is_map(path):
            return not host_tables.usable_paths(path)
        return bool(nvme_paths.waiting_controllers(path))
    except OSError:
        return False  # it is gone, and nothing waits


def let_fail(context: NodeContext, state: VolumeState) -> bool:
    """Let what waits fail, if the volume is certainly not this node's any more, and say whether it is not. Raises
    ProgramFailed."""
    if context.registration is None or not context.registration.was_taken_away(state.volume_id):
        return False
    LOG.warning("volume %s was taken from this node; what it has not written is lost", state.volume_id)
    path = _path(state)
    if host_tables.is_map(path):
        multipath.end_queueing(path)
    else:
        nvme_paths.delete_controllers(nvme_paths.waiting_controllers(path))
    return True


def _path(state: VolumeState) -> str:
    return str((state.device_info or {}).get("path", ""))
