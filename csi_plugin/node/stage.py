"""NodeStageVolume and NodeUnstageVolume: a volume's block device on this node, with its filesystem mounted once."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import grpc

from csi_plugin.attachment import device_use, holders
from csi_plugin.attachment.host_tables import device_identity
from csi_plugin.attachment.programs import ProgramFailed, ProgramStuck, run
from csi_plugin.attachment.tasks import Attached
from csi_plugin.error_text import error_text
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.node import filesystems, freezing, mounts, taken_volumes, target_paths, validation, volume_state
from csi_plugin.node.attachment_process import ConnectionOutdated
from csi_plugin.node.context import NodeContext
from csi_plugin.node.stage_spec import StageSpec, parse_stage_spec
from csi_plugin.node.staged_volumes import (
    check_contexts,
    check_unpublished,
    device_numbers_of,
    has_own_device,
    is_in_place,
    is_mounted,
    load_if_readable,
    published_at,
    recover,
    unmount_without_state,
)
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError, already_exists, failed_precondition, internal, unavailable

LOG = logging.getLogger(__name__)

_NOT_FINAL = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
    }
)
"""After these kubelet unstages the volume, or stages it again; after all others it does neither."""
_FREE_SECONDS = 10.0
"""A container that ends gives its mounts back within this."""
_FREE_PAUSE = 0.05


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
    previous, was_here = load_if_readable(context, spec.volume_id)
    if previous is not None and previous.staged and is_in_place(previous):
        check_same(previous, spec)
        return
    if spec.access_type == "mount":
        target_paths.check_folder(spec.staging_path, field="staging_target_path")
    if previous is None or previous.sealed_connection != spec.sealed_connection:
        _check_connection(context, spec)
    # An attempt that was cut off, or a reboot.
    if previous is not None and previous.staging_path != spec.staging_path:
        mounts.unmount_device(previous.staging_path, previous.device_path)
    state = volume_state.begin(spec, previous)
    context.states.save(state)
    failpoint("stage.planned")
    with (
        _undone_if_final(context, state),
        context.staging(spec.volume_id) if spec.unfenced and not spec.read_only else nullcontext(),
    ):
        _stage_planned(context, state, spec, previous, was_here=was_here)


@contextmanager
def _undone_if_final(context: NodeContext, state: VolumeState) -> Iterator[None]:
    """Release the device after an error that kubelet takes as final: it does not unstage the volume then, and what is
    attached could never be deleted. UNAVAILABLE, which is not final, where that does not work either."""
    try:
        yield
    except ProgramStuck:
        raise  # nobody knows what is held by a program that hangs
    except (RpcError, ProgramFailed, OSError) as error:
        if isinstance(error, RpcError) and error.code in _NOT_FINAL:
            raise
        try:
            check_unpublished(state)
        except RpcError:
            raise error from None  # a pod, or another volume, still uses the device: it is theirs to release
        try:
            _take_away(context, state)
        except Exception as second:
            # Whatever it was, the CO has to unstage the volume.
            reason = error.message if isinstance(error, RpcError) else str(error)
            raise unavailable(f"{reason}; what was attached could not be released: {error_text(second)}") from second
        raise


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
    if attached["write_protected"]:
        # mount would mount it read-only, and tell nobody.
        raise failed_precondition(
            f"device {state.device_path} is write-protected, and volume {state.volume_id} is to be written: let the "
            "storage allow this node to write to it, or use the volume read-only"
        )
    failpoint("stage.connected")
    if state.access_type == "mount":
        _mount(context, state, spec, is_recorded=attached["formatted"])
    if was_here and previous is None:
        state.targets = published_at(state)
    state.staged = True
    context.states.save(state)
    failpoint("stage.saved")


def _check_connection(context: NodeContext, spec: StageSpec) -> None:
    """FAILED_PRECONDITION for connection information that nothing is attached with; what it says is not looked at else.
    One that this node cannot read is asked for again when it is attached, and checked then."""
    with suppress(ConnectionOutdated):
        context.attachment_process.run(
            "check", sealed=spec.sealed_connection, publication=context.publication(spec.volume_id)
        )


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

    def attach(**compared: Any) -> Attached:
        attached: Attached = context.attachment_process.run(
            "attach",
            **compared,
            sealed=state.sealed_connection,
            publication=context.publication(state.volume_id),
            read_only=state.read_only,
            secrets=dict(spec.secrets),
            used_before=state.encrypted,
        )
        return attached

    try:
        return attach(connector=context.connector())
    except ConnectionOutdated:
        # Sealed to a key that this node no longer has, or of an export to what it was: the controller knows what it is.
        try:
            state.sealed_connection = context.fresh_connection(state.volume_id)
        except RpcError:
            if is_new:
                context.states.remove(state.volume_id)  # nothing was attached, and nothing could be detached with this
            raise
        context.states.save(state)
        try:
            return attach()
        except ConnectionOutdated as error:
            raise internal(f"volume {state.volume_id}: the controller's connection cannot be used: {error}") from error


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
        paths = {os.path.realpath(other.staging_path), *other.targets} & shown
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

    def begin() -> None:
        state.formatting = True
        context.states.save(state)
        failpoint("stage.formatting")

    filesystem, is_new = filesystems.ensure(
        device_path,
        wanted=state.filesystem,
        default=context.configuration.default_filesystem,
        read_only=state.read_only,
        mkfs_options=spec.mkfs_options,
        oldest_kernel=spec.oldest_kernel or context.configuration.oldest_kernel,
        used_before=state.formatted or is_recorded,
        begun_before=state.formatting,
        begin=begin,
        temporary_dir=context.configuration.temporary_dir,
    )
    state.filesystem, state.formatted, state.formatting = filesystem, True, False
    context.states.save(state)
    failpoint("stage.formatted")
    if not is_recorded:
        # Before anything can be written into it.
        context.record_filesystem(state.volume_id, filesystem)
    failpoint("stage.recorded")
    if mounted is None:
        # One that a pod still has mounted is in order, and neither fsck nor resize2fs may touch it.
        is_used = mounts.of_device(device_path) or device_use.is_held(device_path)
        if not state.read_only and not is_new and not is_used:
            filesystems.check(device_path, filesystem)
            filesystems.grow_unmounted(device_path, filesystem)
            if filesystem == "btrfs":
                filesystems.separate_copy(device_path)
        filesystems.mount(device_path, target, filesystem, state.mount_flags, read_only=state.read_only)
    failpoint("stage.mounted")
    if not state.read_only and not is_new:
        filesystems.grow(device_path, target, filesystem)


def release(context: NodeContext, volume_id: str) -> None:
    """Unmount and detach a volume that nobody wants here. Raises FAILED_PRECONDITION while anything shows it."""
    if (state := context.states.load(volume_id)) is not None:
        _unstage_alone(context, volume_id, state.staging_path)


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
    _take_away(context, state)
    if state.unfenced and context.registration is not None:
        context.registration.tell_unstaged(volume_id)


def _take_away(context: NodeContext, state: VolumeState) -> None:
    """Unmount and detach a volume that nothing shows any more, and forget it."""
    is_own = has_own_device(state)
    if is_own:
        _check_holders(state)
        if taken_volumes.waiting([state]):
            taken_volumes.let_fail(context, state)
        if is_mounted(state):
            freezing.thaw(state.staging_path)
    was_mounted = mounts.unmount_device(state.staging_path, state.device_path)
    if is_own:
        holders.release(str((state.device_info or {})["path"]), own=[state.device_path])
        _check_free(state, was_mounted=was_mounted)
        run("blockdev", "--flushbufs", state.device_path)
    failpoint("unstage.unmounted")
    _detach(context, state)
    failpoint("unstage.disconnected")
    context.states.remove(state.volume_id)
    failpoint("unstage.saved")


def _check_holders(state: VolumeState) -> None:
    """FAILED_PRECONDITION for what is built on the volume's device and is in use, or is on other devices, too."""
    path = str((state.device_info or {})["path"])
    if found := holders.blockers(path, own=[state.device_path]):
        raise failed_precondition(
            f"volume {state.volume_id} has {', '.join(found)} on its device {path}: what is inside of a volume was "
            "activated on this host; stop using it and deactivate it (vgchange -an, mdadm --stop), and let LVM pass "
            "over volumes (global_filter in lvm.conf)"
        )


def _check_free(state: VolumeState, *, was_mounted: bool) -> None:
    """FAILED_PRECONDITION where the volume is still mounted, though no mount is seen: in another mount namespace, as of
    a container that goes on. Until its own mount is gone nobody can tell, so that is put back."""
    deadline = time.monotonic() + _FREE_SECONDS
    while device_use.is_held(state.device_path):
        if time.monotonic() > deadline:
            if was_mounted:
                filesystems.mount(
                    state.device_path,
                    state.staging_path,
                    state.filesystem,
                    state.mount_flags,
                    read_only=state.read_only,
                )
            raise failed_precondition(
                f"volume {state.volume_id} is still mounted in another mount namespace: its device "
                f"{state.device_path} is busy, and no mount of it is seen here. End the process that keeps it, as a "
                "container may (grep it in /proc/*/mountinfo of the host)"
            )
        time.sleep(_FREE_PAUSE)


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
    except ConnectionOutdated:
        try:
            sealed_connection = context.fresh_connection(state.volume_id)
        except RpcError as error:
            if error.code is grpc.StatusCode.NOT_FOUND and not has_own_device(state):
                LOG.warning("volume %s: its connection is gone, and so is its device", state.volume_id)
                return
            raise
        try:
            detach(sealed_connection)
        except ConnectionOutdated as error:
            if has_own_device(state):
                raise internal(str(error)) from error
            LOG.warning("volume %s: nothing can be attached with its connection, and nothing is", state.volume_id)
