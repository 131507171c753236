"""NodeStageVolume and NodeUnstageVolume: a volume's block device on this node, with its filesystem mounted once."""

import logging
from typing import Any

import grpc

from csi_plugin.attachment.commands import run as run_command
from csi_plugin.attachment.devices import identity_of, size_of
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.node import filesystems, mounts, validation
from csi_plugin.node.attachment_process import ConnectionUnreadable
from csi_plugin.node.context import Core
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError, already_exists, failed_precondition, internal

LOG = logging.getLogger(__name__)


def node_stage_volume(core: Core, request: csi_pb2.NodeStageVolumeRequest, context: Any) -> None:
    """CSI spec, "NodeStageVolume"."""
    validation.check_stage(request)
    wanted = _wanted(core, request)
    core.run(request.volume_id, "stage", request, context, lambda: _stage(core, wanted, request))


def node_unstage_volume(core: Core, request: csi_pb2.NodeUnstageVolumeRequest, context: Any) -> None:
    """CSI spec, "NodeUnstageVolume". A volume that is not staged here is unstaged."""
    validation.check_unstage(request)
    core.run(
        request.volume_id,
        "unstage",
        request,
        context,
        lambda: _unstage(core, request.volume_id, request.staging_target_path),
    )


def _wanted(core: Core, request: csi_pb2.NodeStageVolumeRequest) -> VolumeState:
    capability = request.volume_capability
    mode = csi_pb2.VolumeCapability.AccessMode.Mode.Name(capability.access_mode.mode)
    return VolumeState(
        volume_id=request.volume_id,
        staging_path=request.staging_target_path,
        access_type=capability.WhichOneof("access_type") or "",
        access_mode=mode,
        filesystem=capability.mount.fs_type,
        mount_flags=list(capability.mount.mount_flags),
        sealed=request.publish_context["connection"],
        read_only=mode.endswith("READER_ONLY"),
    )


def _stage(core: Core, wanted: VolumeState, request: csi_pb2.NodeStageVolumeRequest) -> None:
    known = core.states.load(wanted.volume_id)
    if known is not None:
        if known.staged and _is_in_place(known):
            _check_same(known, wanted)
            return
        # A try that was cut off, or a reboot: what is known of the device's content still holds.
        if known.staging_path != wanted.staging_path:
            mounts.unmount_device(known.staging_path, known.path)
        wanted.formatted, wanted.encrypted = known.formatted, known.encrypted
    core.states.save(wanted)
    failpoint("stage.planned")
    attached = _attach(core, wanted, dict(request.secrets), is_new=known is None)
    failpoint("stage.attached")
    wanted.device, wanted.path, wanted.encrypted = attached["device"], attached["path"], attached["encrypted"]
    wanted.identity = identity_of(wanted.path)
    wanted.paths = attached["paths"]
    core.states.save(wanted)
    _check_unused(core, wanted)
    if attached["size"] < attached["planned_bytes"]:
        raise internal(
            f"device {attached['path']} has {attached['size']} bytes, the volume {attached['planned_bytes']}: "
            "it is not this volume, or its storage has not caught up with an expansion"
        )
    failpoint("stage.connected")
    if wanted.access_type == "mount":
        _mount(core, wanted, request.volume_context.get(filesystems.MKFS_OPTIONS, ""))
    wanted.staged = True
    core.states.save(wanted)
    failpoint("stage.saved")


def _check_unused(core: Core, wanted: VolumeState) -> None:
    """FAILED_PRECONDITION when the device is mounted as another volume, which had its number in the storage before."""
    mounted = mounts.of_device(wanted.path)
    if not mounted:
        return
    for other in core.states.all():
        if other.volume_id != wanted.volume_id and any(mount.target == other.staging_path for mount in mounted):
            raise failed_precondition(
                f"device {wanted.path} is volume {wanted.volume_id} by now, and still mounted at {other.staging_path} "
                f"as volume {other.volume_id}: unpublish and unstage that one first"
            )


def _is_in_place(state: VolumeState) -> bool:
    """Whether a staged volume's device and mount are really there, and belong together."""
    if not is_own_device(state):
        return False
    if state.access_type == "block":
        return True
    mounted = mounts.at(state.staging_path)
    return mounted is not None and mounts.is_of(mounted, state.path)


def is_own_device(state: VolumeState) -> bool:
    """Whether the device of a staged volume is there, and is not another volume's of the same name."""
    return device_exists(state.path) and identity_of(state.path) == state.identity


def device_exists(path: str) -> bool:
    """Whether a block device can be opened: a node may outlive its device."""
    try:
        return bool(path) and size_of(path) > 0
    except OSError:
        return False


def _check_same(known: VolumeState, wanted: VolumeState) -> None:
    """The volume is staged: the same way, or ALREADY_EXISTS."""
    differing = [
        name
        for name in ("staging_path", "access_type", "access_mode", "mount_flags")
        if getattr(known, name) != getattr(wanted, name)
    ]
    if wanted.filesystem and wanted.filesystem != known.filesystem:
        differing.append("filesystem")
    if differing:
        names = ", ".join(differing)
        raise already_exists(f"volume {known.volume_id} is staged at {known.staging_path} with other {names}")


def _attach(core: Core, state: VolumeState, secrets: dict[str, str], *, is_new: bool) -> dict[str, Any]:
    def attach() -> Any:
        return core.attachment_process.run(
            "attach",
            sealed=state.sealed,
            context=core.seal_context(state.volume_id),
            read_only=state.read_only,
            secrets=secrets,
            used_before=state.encrypted,
        )

    try:
        result: dict[str, Any] = attach()
    except ConnectionUnreadable:
        # Sealed to a key that this node no longer has: the controller seals it anew.
        try:
            state.sealed = core.fresh_connection(state.volume_id)
        except RpcError:
            if is_new:
                core.states.remove(state.volume_id)  # nothing was attached, and nothing could be detached with this
            raise
        core.states.save(state)
        result = attach()
    return result


def _mount(core: Core, state: VolumeState, mkfs_options: str) -> None:
    path, target = state.path, state.staging_path
    mounted = mounts.at(target)
    if mounted is not None and not mounts.is_of(mounted, path):
        raise failed_precondition(f"staging_target_path: {mounted.source} is mounted at {target}, not this volume")
    filesystem, is_new = filesystems.ensure(
        path,
        wanted=state.filesystem,
        default=core.configuration.default_filesystem,
        read_only=state.read_only,
        mkfs_options=mkfs_options,
        used_before=state.formatted,
    )
    state.filesystem, state.formatted = filesystem, True
    core.states.save(state)
    failpoint("stage.formatted")
    if mounted is None:
        if not state.read_only and not is_new:
            filesystems.check(path, filesystem)
            filesystems.grow_unmounted(path, filesystem)
            if filesystem == "btrfs":
                filesystems.separate_copy(path)
        filesystems.mount(path, target, filesystem, state.mount_flags, read_only=state.read_only)
    failpoint("stage.mounted")
    if not state.read_only and not is_new:
        filesystems.grow(path, target, filesystem)


def _unstage(core: Core, volume_id: str, staging_path: str) -> None:
    state = core.states.load(volume_id)
    if state is None:
        unmount_stray(core, staging_path)
        return
    for path in {staging_path, state.staging_path}:
        mounts.unmount_device(path, state.path)
    if is_own_device(state):
        left = [mount.target for mount in mounts.of_device(state.path)]
        if left:
            raise failed_precondition(f"volume {volume_id} is still in use at {', '.join(left)}; unpublish it first")
        run_command("blockdev", "--flushbufs", state.path)
    failpoint("unstage.unmounted")
    _detach(core, state)
    failpoint("unstage.disconnected")
    core.states.remove(volume_id)
    failpoint("unstage.saved")


def unmount_stray(core: Core, target: str) -> None:
    """Unmount, for a volume that this node knows nothing of (its state was lost, perhaps), what is on a block device
    and no other volume's."""
    while (mounted := mounts.at(target)) is not None:
        of_others = any(mounts.is_of(mounted, state.path) for state in core.states.all())
        if of_others or not mounts.is_of_some_device(mounted):
            LOG.info("%s is left mounted at %s: it is no volume's that this call names", mounted.source, target)
            return
        run_command("umount", "--", target)


def _detach(core: Core, state: VolumeState) -> None:
    arguments = {
        "context": core.seal_context(state.volume_id),
        "device": state.device,
        "encrypted": state.encrypted,
    }
    try:
        core.attachment_process.run("detach", sealed=state.sealed, **arguments)
    except ConnectionUnreadable:
        try:
            sealed = core.fresh_connection(state.volume_id)
        except RpcError as error:
            if error.code is grpc.StatusCode.NOT_FOUND and state.device is None:
                LOG.warning("volume %s: its connection is gone, and no device of it is known", state.volume_id)
                return
            raise
        core.attachment_process.run("detach", sealed=sealed, **arguments)
