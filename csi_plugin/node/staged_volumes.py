"""Questions about staged volumes that several RPCs ask."""

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

from csi_plugin.attachment import device_use, host_tables, path_states
from csi_plugin.attachment.host_tables import (
    DeviceNumber,
    device_folder,
    device_identity,
    device_number,
    device_size,
    lower_devices,
    number_of,
    path_count,
)
from csi_plugin.node import mounts, target_paths
from csi_plugin.node.attachment_process import ConnectionOutdated
from csi_plugin.node.context import NodeContext
from csi_plugin.node.timed_calls import TIMED_CALLS
from csi_plugin.node.volume_state import StateUnreadable, VolumeState
from csi_plugin.protocol import mount_rules
from csi_plugin.protocol.errors import RpcError, failed_precondition, not_found

LOG = logging.getLogger(__name__)

_ALL_SECONDS = 10.0
_SHORT_SECONDS = 0.2
"""For each volume that is left when others have taken all the time."""


def find_used_at(context: NodeContext, volume_id: str, path: str) -> VolumeState:
    """The volume if it is staged or published at a path. Raises NOT_FOUND."""
    state = context.states.load(volume_id)
    if state is None:
        raise not_found(f"volume_id: no volume of the id {volume_id!r} is on this node")
    if state.access_type == "block" and target_paths.normalize(path) in (*state.targets, state.staging_path):
        return state
    mounted = mounts.at(path)
    if mounted is None or not mounts.is_of(mounted, state.device_path):
        raise not_found(f"volume_path: volume {volume_id} is not at {path}")
    return state


def is_in_place(state: VolumeState) -> bool:
    """Whether a staged volume's device and mount are really there, and belong together."""
    return has_own_device(state) and (state.access_type == "block" or is_mounted(state))


def is_mounted(state: VolumeState) -> bool:
    """Whether the volume's filesystem is at its staging path."""
    mounted = mounts.at(state.staging_path)
    return (
        mounted is not None and mounts.is_of(mounted, state.device_path) and not device_use.has_lost_its_device(mounted)
    )


def has_own_device(state: VolumeState, *, seconds: float | None = None) -> bool:
    """Whether the device of a staged volume is there, and is not another volume's of the same name.

    A decrypted device outlives the one below it, which counts as well. Raises UNAVAILABLE where that is not known in
    time, in ``seconds``: a loop device asks the server of the share that its file is on.
    """
    attached_path = (state.device_info or {}).get("path", "")
    what = f"device {state.device_path} ({state.device_identity}; {attached_path}, {state.attached_identity})"
    return TIMED_CALLS.run(state.volume_id, what, lambda: _has_own_device(state), seconds=seconds)


def lost_device(state: VolumeState) -> RpcError:
    """FAILED_PRECONDITION for a volume that has not its own device, with what the kernel says of that."""
    found = path_states.describe(str((state.device_info or {}).get("path", "")) or state.device_path)
    return failed_precondition(
        f"volume {state.volume_id} has lost its device {state.device_path} ({found}); end its pods and stage it again"
    )


def has_own_devices(states: Iterable[VolumeState]) -> Iterator[tuple[VolumeState, bool | None]]:
    """The same of many volumes, in about the time that one may take; None where it is not known in time."""
    deadline = time.monotonic() + _ALL_SECONDS
    for state in states:
        try:
            yield state, has_own_device(state, seconds=max(deadline - time.monotonic(), _SHORT_SECONDS))
        except RpcError as error:
            LOG.debug("%s", error)
            yield state, None


def _has_own_device(state: VolumeState) -> bool:
    return (
        _is_readable(state.device_path)
        and device_identity(state.device_path) == state.device_identity
        and (not state.encrypted or _is_over_own_device(state))
    )


def _is_over_own_device(state: VolumeState) -> bool:
    attached_path = str((state.device_info or {}).get("path", ""))
    if not _is_readable(attached_path):
        return False
    # Older states do not know what it was.
    is_own = device_identity(attached_path) == state.attached_identity or not state.attached_identity
    return is_own and device_folder(attached_path) in lower_devices(device_folder(state.device_path))


def held_volumes(context: NodeContext) -> list[str]:
    """Ids of staged volumes that nothing but this node keeps from being written to.

    One that could not be staged to the end is not used, and the CO does not have to unstage it.
    """
    unfenced = (state for state in context.states.all() if state.unfenced and not state.read_only)
    return [
        state.volume_id
        for state, is_own in has_own_devices(unfenced)
        # One that does not answer now may do so, and be written to, at any time.
        if is_own is None or (is_own and (state.staged or published_at(state)))
    ]


def attached_volumes(context: NodeContext) -> list[str]:
    """Ids of volumes whose device is here, in use or not; one that does not answer counts."""
    return [state.volume_id for state, is_own in has_own_devices(context.states.all()) if is_own is not False]


def is_over_paths(state: VolumeState) -> bool:
    """Whether the volume's device is one over several paths, which come and go without it."""
    return state.device_info is not None and host_tables.is_over_paths(str(state.device_info["path"]))


def present_paths(state: VolumeState) -> int:
    """Over how many paths the storage is reached now, or by themselves again."""
    return path_count(str(state.device_info["path"])) if state.device_info else 0


def usable_paths(state: VolumeState) -> int:
    """How many of the paths of a device over several work now."""
    try:
        return min(present_paths(state), path_states.usable_paths(str((state.device_info or {})["path"])))
    except OSError:
        return 0


def device_numbers_of(state: VolumeState) -> set[DeviceNumber]:
    """Numbers of the volume's device, of os-brick's below it, of the paths below that, and of all that is built on
    these: whatever shows one of them shows the volume."""
    folders = []
    for path in {state.device_path, str((state.device_info or {}).get("path", ""))} - {""}:
        with contextlib.suppress(OSError):
            folder = device_folder(path)
            folders += [folder, *lower_devices(folder)]
    return {number for folder in device_use.with_upper_devices(folders) if (number := number_of(folder)) is not None}


def check_unpublished(state: VolumeState) -> None:
    """FAILED_PRECONDITION while anything but its staging path shows the volume, recorded or not."""
    paths = {
        path
        for path in state.targets
        if (mounted := mounts.at(path))
        and (mounts.is_of(mounted, state.device_path) or device_use.has_lost_its_device(mounted))
    }
    if has_own_device(state):
        paths |= {mount.target for mount in device_use.mounts_of(device_numbers_of(state))}
    paths.discard(os.path.realpath(state.staging_path))
    if paths:
        where = ", ".join(sorted(paths))
        raise failed_precondition(f"volume {state.volume_id} is still in use at {where}; unpublish it first")


def check_contexts(state: VolumeState, flags: Iterable[str]) -> None:
    """FAILED_PRECONDITION for other SELinux labels than those that the volume is staged with: a filesystem that is
    mounted has one, wherever it is shown."""
    staged = mount_rules.contexts(state.mount_flags)
    for name, label in mount_rules.contexts(flags).items():
        if staged.get(name) != label:
            raise failed_precondition(
                f"volume_capability.mount.mount_flags: volume {state.volume_id} is staged with "
                f"{name}={staged.get(name, 'nothing')}, not {label}; unpublish and unstage it first"
            )


def _is_readable(device_path: str) -> bool:
    """Whether a block device can be opened: its node in /dev may outlive the device."""
    try:
        return bool(device_path) and device_size(device_path) > 0
    except OSError:
        return False


def published_at(state: VolumeState) -> dict[str, bool]:
    """Target paths at which a volume is published, and whether read-only, as the kernel's tables tell."""
    staging_path = os.path.realpath(state.staging_path)
    return {
        mount.target: mount.is_read_only
        for mount in mounts.of_device(state.device_path)
        # What shows a part of a filesystem is a workload's subPath.
        if mount.target != staging_path and (state.access_type == "block" or mount.root == "/")
    }


def load_if_readable(context: NodeContext, volume_id: str) -> tuple[VolumeState | None, bool]:
    """What is remembered of a volume, if it can be read; and whether there is anything: then the volume was here."""
    try:
        state = context.states.load(volume_id)
    except StateUnreadable as error:
        LOG.warning("%s", error)
        return None, True
    return state, state is not None


def unmount_without_state(context: NodeContext, volume_id: str, target: str, *, was_here: bool) -> bool:
    """Unmount what is at a path and the volume's, of which nothing can be read; returns whether anything was unmounted.

    Of a volume that was here that is what no other volume's is. Of one that is not known here (its state was lost,
    perhaps), only what certainly is its own. Raises UNAVAILABLE where only the controller knows, and is away.
    """
    any_unmounted = False
    while (mounted := mounts.at(target)) is not None:
        device = mounts.shown_device(mounted)
        is_of_other = any(mounts.is_of(mounted, state.device_path) for state in context.states.all())
        if is_of_other or not device or not (was_here or _is_certainly(context, volume_id, device)):
            LOG.info("%s stays mounted at %s: it is no volume's that this call names", mounted.source, target)
            break
        mounts.unmount_topmost(target)
        any_unmounted = True
    return any_unmounted


def _is_certainly(context: NodeContext, volume_id: str, device: str) -> bool:
    """Whether a device is a volume's, by the name that it has on the storage, or by the connection to it."""
    if _is_uuid(volume_id) and volume_id in device_identity(device):
        return True
    try:
        sealed_connection = context.fresh_connection(volume_id)
    except RpcError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            return False
        raise
    device_info = find_device(context, volume_id, sealed_connection)
    return device_info is not None and device_number(str(device_info["path"])) == device_number(device)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def find_device(context: NodeContext, volume_id: str, sealed_connection: str) -> dict[str, Any] | None:
    """os-brick's information on the device of an attached volume; None where it cannot be had."""
    try:
        device_info: dict[str, Any] | None = context.attachment_process.run(
            "find", sealed=sealed_connection, publication=context.publication(volume_id)
        )
    except (RpcError, ConnectionOutdated) as error:
        LOG.warning("the device of volume %s is not known: %s", volume_id, error)
        return None
    return device_info


def recover(context: NodeContext, volume_id: str, staging_path: str) -> VolumeState:
    """What can be known of a volume whose state cannot be read: from the kernel's tables, and from the controller.

    It has the connection as long as the volume is published to this node. Raises UNAVAILABLE.
    """
    state = VolumeState(volume_id=volume_id, staging_path=staging_path, access_type="", access_mode="")
    mounted = mounts.at(staging_path)
    if mounted is not None and not any(mounts.is_of(mounted, other.device_path) for other in context.states.all()):
        state.device_path = mounts.shown_device(mounted)
    try:
        state.sealed_connection = context.fresh_connection(volume_id)
    except RpcError as error:
        if error.code is not grpc.StatusCode.NOT_FOUND:
            raise
    else:
        state.device_info = find_device(context, volume_id, state.sealed_connection)
    if not state.device_path and state.device_info is not None:
        state.device_path = str(state.device_info["path"])
    if state.device_path and Path(state.device_path).exists():
        state.device_identity = device_identity(state.device_path)
    return state
