"""Filesystems to which the kernel has stopped writing after errors."""

import logging

from csi_plugin.attachment import device_use
from csi_plugin.node import filesystems, mounts
from csi_plugin.node.staged_volumes import check_unpublished
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol.errors import RpcError

LOG = logging.getLogger(__name__)


def remount_if_stopped(state: VolumeState) -> None:
    """Check and mount again a staged filesystem to which the kernel has stopped writing after errors, when nobody has
    it: for the next pod on this node kubelet publishes the volume without staging it. Raises ProgramFailed for what a
    person has to repair; it is mounted read-only then, as it was."""
    mounted = mounts.at(state.staging_path)
    is_stopped = mounted is not None and mounted.is_filesystem_read_only and mounts.is_of(mounted, state.device_path)
    if state.access_type != "mount" or state.read_only or not is_stopped:
        return
    try:
        check_unpublished(state)
    except RpcError:
        return  # it is mounted as it is as long as others have it
    LOG.warning("volume %s was stopped by the kernel after errors; it is checked and mounted again", state.volume_id)
    mounts.unmount_device(state.staging_path, state.device_path)
    works = False
    try:
        if not device_use.is_held(state.device_path):  # in another mount namespace
            filesystems.check(state.device_path, state.filesystem)
            works = True
    finally:
        filesystems.mount(
            state.device_path, state.staging_path, state.filesystem, state.mount_flags, read_only=not works
        )
