"""Volumes that the controller has taken from this node while it could not be reached, and that are still in use here.

Their I/O may wait for paths that never come: a multipath map keeps it, and so does the kernel's NVMe initiator. Whoever
waits cannot be killed, and keeps the volume from being unmounted.
"""

import logging
from collections.abc import Iterable

from csi_plugin.attachment import host_tables, multipath, nvme_paths, path_states
from csi_plugin.node.context import NodeContext
from csi_plugin.node.volume_state import VolumeState

LOG = logging.getLogger(__name__)


def waiting(states: Iterable[VolumeState]) -> set[str]:
    """Ids of the volumes to which I/O waits for paths, of which they have none that is usable."""
    found = set()
    failed_maps: set[str] | None = None
    for state in states:
        try:
            path = _path(state)
            if not host_tables.is_map(path):
                is_waiting = bool(nvme_paths.waiting_controllers(path))
            elif path_states.usable_paths(path):
                failed_maps = multipath.names_without_paths() if failed_maps is None else failed_maps
                is_waiting = host_tables.dm_name(host_tables.device_folder(path)) in failed_maps
            else:
                is_waiting = True
        except OSError:
            continue  # it is gone, and nothing waits
        if is_waiting:
            found.add(state.volume_id)
    return found


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
