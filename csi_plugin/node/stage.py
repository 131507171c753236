"""NodeStageVolume and NodeUnstageVolume: a volume's block device on this node, with its filesystem mounted once."""

import logging
import os
from contextlib import nullcontext

import grpc

from csi_plugin.attachment import device_use, holders, host_tables, multipath
from csi_plugin.attachment.host_tables import device_identity
from csi_plugin.attachment.programs import run
from csi_plugin.attachment.tasks import Attached
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.node import filesystems, mounts, target_paths, validation, volume_state
from csi_plugin.node.attachment_process import ConnectionUnreadable
from csi_plugin.node.context import NodeContext
from csi_plugin.node.stage_spec import StageSpec, parse_stage_spec
from csi_plugin.node.staged_volumes import (
    check_contexts,
    check_unpublished,
    device_numbers_of,
    has_own_device,
    is_in_place,
    load_if_readable,
    published_at,
    recover,
    unmount_without_state,
)
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError, already_exists, failed_precondition, internal

LOG = logging.getLogger(__name__)


def node_stage_volume(
    context: NodeContext, request: csi_pb2.NodeStageVolumeRequest, call: grpc.ServicerContext
) -> None:
    """CSI spec, "NodeStageVolume"."""
    validation.check_stage(request)
    spec = parse_stage_spec(request)
    context.run_for_health(spec.volume_id, "stage", request, call, lambda: _stage_alone(context, spec))


def node_unstage_volume(
    context: NodeContext, request: csi_pb2.NodeUnstageVolumeRequest, call: grpc.ServicerContext
) -> None:
    """CSI spec, "NodeUnstageVolume". A volume that is not staged here is unstaged."""
    validation.check_unstage(request)
    volume_id, staging_path = request.volume_id, request.staging_target_path
    context.run(volume_id, "unstage", request, call, lambda: _unstage_alone(context, volume_id, staging_path))
    context.failures.forget(volume_id, "stage", "publish")


def _stage_alone(context: NodeContext, spec: StageSpec) -> None:
    with context.hold_path(spec.staging_path):
        _stage(context, spec)


def _stage(context: NodeContext, spec: StageSpec) -> None:
    target_paths.check_no_link(spec.staging_path, field="staging_target_path")
    previous, was_here = load_if_readable(context, spec.volume_id)
    if previous is not None:
        if previous.staged and is_in_place(previous):
            check_same(previous, spec)
            return
        # An attempt that was cut off, or a reboot.
        if previous.staging_path != spec.staging_path:
            mounts.unmount_device(previous.staging_path, previous.device_path)
    state = volume_state.begin(spec, previous)
    context.states.save(state)
    failpoint("stage.planned")
    with context.staging(spec.volume_id) if spec.unfenced and not spec.read_only else nullcontext():
        _stage_planned(context, state, spec, previous, was_here=was_here)


def _stage_planned(
    context: NodeContext, state: VolumeState, spec: StageSpec, previous: VolumeState | None, *, was_here: bool
) -> None:
    attached = _attach(context, state, spec, is_new=not was_here)
    failpoint("stage.attached")
    _record_device(context, state, attached)
    _check_unused(context, state)
    if attached["size"] < attached["expected_size"]:
        raise internal(
            f"device {state.device_path} has {attached['size']} bytes, the volume {attached['expected_size']}: "
            "it is not this volume, or its storage has not caught up with an expansion"
        )
    failpoint("stage.connected")
    if state.access_type == "mount":
        _mount(context, state, spec, is_recorded=attached["formatted"])
    if was_here and previous is None:
        state.targets = published_at(state)
    state.staged = True
    context.states.save(state)
    failpoint("stage.saved")


def check_same(state: VolumeState, spec: StageSpec) -> None:
    """The volume is staged: the same way, or ALREADY_EXISTS; with another SELinux label, FAILED_PRECONDITION."""
    check_contexts(state, spec.mount_flags)
    differing = [
        name for name in ("staging_path", "access_type", "access_mode") if getattr(state, name) != getattr(spec, name)
    ]
    if state.mount_flags != list(spec.mount_flags):
        differing.append("mount_flags")
    if spec.filesystem and spec.filesystem != state.filesystem:
        differing.append("filesystem")
    if differing:
        names = ", ".join(differing)
        raise already_exists(f"volume {state.volume_id} is staged at {state.staging_path} with other {names}")


def _attach(context: NodeContext, state: VolumeState, spec: StageSpec, *, is_new: bool) -> Attached:
    """Attach with the connection of the state, or with a fresh one, which is saved."""

    def attach() -> Attached:
        attached: Attached = context.attachment_process.run(
            "attach",
            sealed=state.sealed_connection,
            publication=context.publication(state.volume_id),
            read_only=state.read_only,
            secrets=dict(spec.secrets),
            used_before=state.encrypted,
        )
        return attached

    try:
        return attach()
    except ConnectionUnreadable:
        # Sealed to a key that this node no longer has: the controller seals it again.
        try:
            state.sealed_connection = context.fresh_connection(state.volume_id)
        except RpcError:
            if is_new:
                context.states.remove(state.volume_id)  # nothing was attached, and nothing could be detached with this
            raise
        context.states.save(state)
        return attach()


def _record_device(context: NodeContext, state: VolumeState, attached: Attached) -> None:
    state.device_info = attached["device_info"]
    state.device_path = attached["device_path"]
    state.device_identity = device_identity(state.device_path)
    state.attached_identity = device_identity(str(attached["device_info"]["path"]))
    state.path_count = attached["path_count"]
    state.encrypted = attached["encrypted"]
    context.states.save(state)


def _check_unused(context: NodeContext, state: VolumeState) -> None:
    """FAILED_PRECONDITION when the device is shown as another volume, which had its number in the storage before."""
    shown = {mount.target for mount in device_use.mounts_of(device_numbers_of(state))}
    if not shown:
        return
    for other in context.states.all():
        if other.volume_id == state.volume_id:
            continue
        paths = {os.path.realpath(other.staging_path), *map(os.path.normpath, other.targets)} & shown
        if paths:
            raise failed_precondition(
                f"device {state.device_path} is volume {state.volume_id} by now, and still at "
                f"{', '.join(sorted(paths))} as volume {other.volume_id}: unpublish and unstage that one first"
            )


def _mount(context: NodeContext, state: VolumeState, spec: StageSpec, *, is_recorded: bool) -> None:
    """``is_recorded``: that the volume has had a filesystem is known to the controller."""
    device_path, target = state.device_path, state.staging_path
    mounted = mounts.unmount_lost(target)
    if mounted is not None and not mounts.is_of(mounted, device_path):
        raise failed_precondition(f"staging_target_path: {mounted.source} is mounted at {target}, not this volume")
    if mounted is not None and (missing := filesystems.missing_context(mounted, state.mount_flags)):
        raise failed_precondition(
            f"volume_capability.mount.mount_flags: the volume is mounted at {target} without {missing}; unpublish and "
            "unstage it first"
        )
    filesystem, is_new = filesystems.ensure(
        device_path,
        wanted=state.filesystem,
        default=context.configuration.default_filesystem,
        read_only=state.read_only,
        mkfs_options=spec.mkfs_options,
        oldest_kernel=spec.oldest_kernel or context.configuration.oldest_kernel,
        used_before=state.formatted or is_recorded,
        temporary_dir=context.configuration.temporary_dir,
    )
    state.filesystem, state.formatted = filesystem, True
    context.states.save(state)
    failpoint("stage.formatted")
    if not is_recorded:
        # Before anything can be written into it.
        context.record_filesystem(state.volume_id, filesystem)
    failpoint("stage.recorded")
    if mounted is None:
        # One that a pod still has mounted is in order, and neither fsck nor resize2fs may touch it.
        if not state.read_only and not is_new and not mounts.of_device(device_path):
            filesystems.check(device_path, filesystem)
            filesystems.grow_unmounted(device_path, filesystem)
            if filesystem == "btrfs":
                filesystems.separate_copy(device_path)
        filesystems.mount(device_path, target, filesystem, state.mount_flags, read_only=state.read_only)
    failpoint("stage.mounted")
    if not state.read_only and not is_new:
        filesystems.grow(device_path, target, filesystem)


def _unstage_alone(context: NodeContext, volume_id: str, staging_path: str) -> None:
    with context.hold_path(staging_path):
        _unstage(context, volume_id, staging_path)


def _unstage(context: NodeContext, volume_id: str, staging_path: str) -> None:
    state, was_here = load_if_readable(context, volume_id)
    if state is None and not was_here:
        unmount_without_state(context, volume_id, staging_path, was_here=False)
        return
    if state is None:
        state = recover(context, volume_id, staging_path)
    if os.path.realpath(staging_path) != os.path.realpath(state.staging_path):
        LOG.info("volume %s is staged at %s, and not at %s", volume_id, state.staging_path, staging_path)
        return
    # First of all: a refusal changes nothing.
    check_unpublished(state)
    is_own = has_own_device(state)
    if is_own:
        _check_holders(state)
        _end_queueing(context, state)
    mounts.unmount_device(state.staging_path, state.device_path)
    if is_own:
        holders.release(str((state.device_info or {})["path"]), own=[state.device_path])
        run("blockdev", "--flushbufs", state.device_path)
    failpoint("unstage.unmounted")
    _detach(context, state)
    failpoint("unstage.disconnected")
    context.states.remove(volume_id)
    failpoint("unstage.saved")
    if state.unfenced and context.registration is not None:
        context.registration.tell_unstaged(volume_id)


def _end_queueing(context: NodeContext, state: VolumeState) -> None:
    """A map without paths keeps I/O for when they come back: they will not, of a volume that was taken away."""
    path = str((state.device_info or {})["path"])
    if not host_tables.is_map(path) or host_tables.usable_paths(path):
        return
    try:
        context.fresh_connection(state.volume_id)
    except RpcError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            LOG.warning("volume %s was taken from this node; what it has not written is lost", state.volume_id)
            multipath.end_queueing(path)


def _check_holders(state: VolumeState) -> None:
    """FAILED_PRECONDITION for what is built on the volume's device and is in use, or is on other devices, too."""
    path = str((state.device_info or {})["path"])
    if found := holders.blockers(path, own=[state.device_path]):
        raise failed_precondition(
            f"volume {state.volume_id} has {', '.join(found)} on its device {path}: what is inside of a volume was "
            "activated on this host; stop using it and deactivate it (vgchange -an, mdadm --stop), and let LVM pass "
            "over volumes (global_filter in lvm.conf)"
        )


def _detach(context: NodeContext, state: VolumeState) -> None:
    def detach(sealed_connection: str) -> None:
        context.attachment_process.run(
            "detach",
            sealed=sealed_connection,
            publication=context.publication(state.volume_id),
            device_info=state.device_info,
            identity=state.attached_identity or ("" if state.encrypted else state.device_identity),
            encrypted=state.encrypted,
        )

    try:
        detach(state.sealed_connection)
    except ConnectionUnreadable:
        try:
            sealed_connection = context.fresh_connection(state.volume_id)
        except RpcError as error:
            if error.code is grpc.StatusCode.NOT_FOUND and not has_own_device(state):
                LOG.warning("volume %s: its connection is gone, and so is its device", state.volume_id)
                return
            raise
        detach(sealed_connection)
