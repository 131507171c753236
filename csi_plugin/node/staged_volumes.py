"""Questions about staged volumes that several RPCs ask."""

import logging
from pathlib import Path

from csi_plugin.attachment.host_tables import device_identity, device_size
from csi_plugin.node import mounts
from csi_plugin.node.context import NodeContext
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol.errors import not_found

LOG = logging.getLogger(__name__)


def find_used_at(context: NodeContext, volume_id: str, path: str) -> VolumeState:
    """The volume if it is staged or published at a path. Raises NOT_FOUND."""
    state = context.states.load(volume_id)
    if state is None:
        raise not_found(f"volume_id: no volume of the id {volume_id!r} is on this node")
    if state.access_type == "block" and path in (*state.targets, state.staging_path):
        return state
    mounted = mounts.at(path) if Path(path).exists() else None
    if mounted is None or not mounts.is_of(mounted, state.device_path):
        raise not_found(f"volume_path: volume {volume_id} is not at {path}")
    return state


def is_in_place(state: VolumeState) -> bool:
    """Whether a staged volume's device and mount are really there, and belong together."""
    return has_own_device(state) and (state.access_type == "block" or is_mounted(state))


def is_mounted(state: VolumeState) -> bool:
    """Whether the volume's filesystem is at its staging path."""
    mounted = mounts.at(state.staging_path)
    return mounted is not None and mounts.is_of(mounted, state.device_path)


def has_own_device(state: VolumeState) -> bool:
    """Whether the device of a staged volume is there, and is not another volume's of the same name."""
    return _is_readable(state.device_path) and device_identity(state.device_path) == state.device_identity


def _is_readable(device_path: str) -> bool:
    """Whether a block device can be opened: its node in /dev may outlive the device."""
    try:
        return bool(device_path) and device_size(device_path) > 0
    except OSError:
        return False


def unmount_unknown(context: NodeContext, target: str) -> None:
    """Unmount, for a volume that this node knows nothing of (its state was lost, perhaps), what is on a block device
    and no other volume's."""
    while (mounted := mounts.at(target)) is not None:
        is_of_other = any(mounts.is_of(mounted, state.device_path) for state in context.states.all())
        if is_of_other or not mounts.is_of_some_device(mounted):
            LOG.info("%s stays mounted at %s: it is no volume's that this call names", mounted.source, target)
            return
        mounts.unmount_topmost(target)
