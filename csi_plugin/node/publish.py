"""NodePublishVolume and NodeUnpublishVolume: a staged volume at the path where a workload sees it."""

from pathlib import Path

import grpc

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.node import mounts, stopped_filesystems, target_paths, validation
from csi_plugin.node.context import NodeContext
from csi_plugin.node.staged_volumes import (
    check_contexts,
    has_own_device,
    is_mounted,
    load_if_readable,
    lost_device,
    unmount_without_state,
)
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import already_exists, failed_precondition, invalid_argument, not_found

_ONE_TARGET = ("SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY", "SINGLE_NODE_SINGLE_WRITER")
"""Access modes that allow a single target path on a node (CSI spec, NodePublishVolume, second table)."""


def node_publish_volume(
    context: NodeContext, request: csi_pb2.NodePublishVolumeRequest, call: grpc.ServicerContext
) -> None:
    """CSI spec, "NodePublishVolume"."""
    validation.check_publish(request)
    context.run_for_health(request.volume_id, "publish", request, call, lambda: _publish_alone(context, request))


def node_unpublish_volume(
    context: NodeContext, request: csi_pb2.NodeUnpublishVolumeRequest, call: grpc.ServicerContext
) -> None:
    """CSI spec, "NodeUnpublishVolume". What is not published at the path is unpublished."""
    validation.check_unpublish(request)
    volume_id, target = request.volume_id, target_paths.normalize(request.target_path)
    context.run(volume_id, "unpublish", request, call, lambda: _unpublish_alone(context, volume_id, target))
    context.failures.forget(volume_id, "publish")


def _publish_alone(context: NodeContext, request: csi_pb2.NodePublishVolumeRequest) -> None:
    with context.hold_path(request.target_path):
        _publish(context, request)


def _publish(context: NodeContext, request: csi_pb2.NodePublishVolumeRequest) -> None:
    state = context.states.load(request.volume_id)
    if state is None:
        raise not_found(f"volume_id: no volume of the id {request.volume_id!r} is staged on this node")
    if not state.staged or state.staging_path != target_paths.normalize(request.staging_target_path):
        raise failed_precondition(f"staging_target_path: volume {state.volume_id} is not staged there; stage it first")
    if not has_own_device(state):
        raise lost_device(state)
    _check_capability(state, request.volume_capability)
    _check_outside(state, request.target_path)
    target = target_paths.normalize(request.target_path)
    read_only = request.readonly or state.read_only
    mounted = mounts.at(target)
    if mounted is not None and mounts.is_of(mounted, state.device_path):
        _check_repeat(state, request)
        if state.targets.get(target, read_only) != read_only:
            raise already_exists(f"volume {state.volume_id} is published at {target} with another readonly flag")
        if read_only and state.access_type == "mount" and not mounted.is_read_only:
            mounts.make_read_only(target)  # which a crash kept the last attempt from
    elif mounted is not None:
        raise failed_precondition(f"target_path: {mounted.source} is mounted at {target}, not this volume")
    else:
        _check_one_target(state, target)
        _check_mounted(state)
        if not read_only:
            stopped_filesystems.remount_if_stopped(state)
        is_file = state.access_type == "block"
        target_paths.check(target, is_file=is_file)
        _record(context, state, target, read_only=read_only)
        with target_paths.prepare(target, is_file=is_file) as descriptor:
            _bind(state, target, descriptor, read_only=read_only)
        failpoint("publish_node.mounted")
    _record(context, state, target, read_only=read_only)


def _record(context: NodeContext, state: VolumeState, target: str, *, read_only: bool) -> None:
    """Before anything is made, so that what is there after a crash is known to be this node's."""
    if state.targets.get(target) is not read_only:
        state.targets[target] = read_only
        context.states.save(state)


def _check_outside(state: VolumeState, target: str) -> None:
    """INVALID_ARGUMENT for a target in the volume's own filesystem, where a folder would be made, and never removed."""
    inside = Path(target_paths.resolve_parent(target)).is_relative_to(target_paths.resolve_parent(state.staging_path))
    if state.access_type == "mount" and inside:
        raise invalid_argument(f"target_path must not be the staging path, {state.staging_path}, or in it")


def _check_capability(state: VolumeState, capability: csi_pb2.VolumeCapability) -> None:
    if capability.WhichOneof("access_type") != state.access_type:
        raise failed_precondition(
            f"volume_capability: volume {state.volume_id} is staged for {state.access_type} access"
        )
    mode = csi_pb2.VolumeCapability.AccessMode.Mode.Name(capability.access_mode.mode)
    if mode != state.access_mode:
        raise failed_precondition(f"volume_capability: volume {state.volume_id} is staged as {state.access_mode}")
    check_contexts(state, capability.mount.mount_flags)


def _check_repeat(state: VolumeState, request: csi_pb2.NodePublishVolumeRequest) -> None:
    """ALREADY_EXISTS unless a volume that is published at the path is wanted there as it is."""
    mount = request.volume_capability.mount
    differing = []
    if mount.fs_type and mount.fs_type != state.filesystem:
        differing.append("fs_type")
    if request.volume_capability.HasField("mount") and list(mount.mount_flags) != state.mount_flags:
        differing.append("mount_flags")
    if differing:
        raise already_exists(
            f"volume_capability.mount: volume {state.volume_id} is published at {request.target_path} with other "
            f"{', '.join(differing)}"
        )


def _check_one_target(state: VolumeState, target: str) -> None:
    """One target path at a time for the modes that say so; paths whose mount is gone do not count."""
    others = [path for path in state.targets if path != target and mounts.at(path) is not None]
    if others and state.access_mode in _ONE_TARGET:
        raise failed_precondition(
            f"target_path: volume {state.volume_id} is published at {', '.join(others)}; "
            f"{state.access_mode} allows one path"
        )


def _bind(state: VolumeState, target: str, descriptor: int, *, read_only: bool) -> None:
    if state.access_type == "block":
        # The container runtime enforces read-only access to a device; a bind mount cannot.
        mounts.bind(state.device_path, target, descriptor, read_only=False)
    else:
        mounts.bind(state.staging_path, target, descriptor, read_only=read_only)


def _check_mounted(state: VolumeState) -> None:
    if state.access_type == "mount" and not is_mounted(state):
        raise failed_precondition(
            f"volume {state.volume_id} is not mounted at its staging path any more; stage it again"
        )


def _unpublish_alone(context: NodeContext, volume_id: str, target: str) -> None:
    with context.hold_path(target):
        _unpublish(context, volume_id, target)


def _unpublish(context: NodeContext, volume_id: str, target: str) -> None:
    state, was_here = load_if_readable(context, volume_id)
    if state is None:
        is_own = unmount_without_state(context, volume_id, target, was_here=was_here) or was_here
    elif target_paths.resolve_parent(target) == target_paths.resolve_parent(state.staging_path):
        return  # that is unstaged
    else:
        is_own = mounts.unmount_device(target, state.device_path) or target in state.targets
    if mounts.at(target) is not None:
        return  # it is another volume's
    failpoint("unpublish_node.unmounted")
    target_paths.remove(target, is_own=is_own)
    if state is not None and state.targets.pop(target, None) is not None:
        context.states.save_if_room(state)
