"""Calls of a driver with what Cinder's volume manager does before and after them, which drivers rely on.

The manager itself cannot run here: it is a service, with a message queue and a database of its own. The Cinder runtime
page of the documentation has the table of its duties and where each is done.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from cinder import exception, utils

from csi_plugin.instrumentation import tracing
from csi_plugin.known_secrets import keep_secrets_of_driver
from csi_plugin.persistence.records import GroupSnapshotRecord, SnapshotRecord, VolumeRecord
from csi_plugin.storage.cinder import connection_info as completion
from csi_plugin.storage.cinder.adaptations import (
    lio_targets,
    lvm_thick,
    lvm_tools,
    nfs_shares,
    rbd_clones,
    rbd_fencing,
    rbd_keyrings,
    rbd_map_options,
    rbd_snapshots,
    rbd_trash,
    remotefs_copies,
)
from csi_plugin.storage.cinder.driver_answers import InvalidAnswer, check_connection_info, take_update
from csi_plugin.storage.cinder.driver_classes import implements
from csi_plugin.storage.cinder.missing_objects import (
    CONNECTION_GONE,
    GROUP_SNAPSHOT_GONE,
    PAGE_LIMIT,
    SNAPSHOT_GONE,
    VOLUME_GONE,
    gone_is_done,
    names_it_alone,
)
from csi_plugin.storage.cinder.runtime import CONTEXT

_ACTING_PARTS = ("vg", "target_driver")
"""Attributes of drivers whose methods change something, and are called by what adapts the drivers."""


def guarded(driver: Any, *, before: Callable[[], None] | None, backend: str) -> Any:
    """A stand-in for a driver, for the functions here: each of its calls is a span, and ``before`` is called right
    before it, and before what adapts the driver changes anything past it."""
    return tracing.traced_methods(driver, "driver.", before=before, parts=_ACTING_PARTS, backend=backend)


def connect(
    driver: Any,
    volume: Any,
    connector: Mapping[str, Any],
    *,
    save: Callable[[], object],
    attach_mode: str | None = "rw",
    is_only: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Export a volume to a host and return Cinder's connection information.

    ``volume`` is a versioned object (its fields take the export's model update, which ``save`` stores), ``connector``
    os-brick's connector properties; ``attach_mode`` is ro or rw, or None for what the driver says; ``is_only`` tells
    whether no other host has it. Raises cinder.exception.InvalidInput for a connector that the driver cannot serve.
    """
    connector = dict(connector)
    try:
        driver.validate_connector(connector)
    except exception.InvalidConnectorException as error:
        raise exception.InvalidInput(reason=str(error)) from error
    nfs_shares.require_mounted(driver, volume)
    with lio_targets.whole_or_not(driver, volume):
        model_update = driver.create_export(CONTEXT, volume, connector)
    lio_targets.allow_discards(driver, volume)
    keep_secrets_of_driver(model_update)
    try:
        if model_update:
            # Before access is granted: a repeat after a crash has to find the CHAP secret that the target got with it.
            take_update(volume, model_update)
            save()
        connection_info = _open(driver, volume, connector)
        completion.complete(driver, volume, connector, connection_info, attach_mode)
    except BaseException:
        # Whatever was raised, the export must not stay, unless another host works on it.
        if is_only():
            driver.remove_export(CONTEXT, volume)
        raise
    return connection_info


def with_present_keys(driver: Any, connection_info: Mapping[str, Any]) -> dict[str, Any]:
    """Connection information from earlier, with the keys that the driver would give now. No call to the storage."""
    present = copy.deepcopy(dict(connection_info))
    rbd_keyrings.complete(driver, present)
    keep_secrets_of_driver(present)
    return present


def _open(driver: Any, volume: Any, connector: dict[str, Any]) -> dict[str, Any]:
    connection_info: dict[str, Any] = driver.initialize_connection(volume, connector)
    try:
        check_connection_info(connection_info)
    except InvalidAnswer:
        # The host has access now, and nobody could use it.
        driver.terminate_connection(volume, connector, force=False)
        raise
    rbd_keyrings.complete(driver, connection_info)
    keep_secrets_of_driver(connection_info)
    rbd_map_options.add(driver, connection_info)
    return connection_info


def disconnect(
    driver: Any,
    volume: Any,
    connector: Mapping[str, Any] | None,
    *,
    last: bool,
    force: bool,
    connection_id: str | None = None,
) -> None:
    """End a connection, or those of every host when ``connector`` is None; ``last`` when the volume has no other.

    One that the driver says is gone has ended. The host cannot write to the volume afterwards where the storage is able
    to refuse it. Raises cinder.exception.VolumeIsBusy while it may, which ``force`` leaves out.
    """
    ids = (volume.id, volume.name_id, connection_id)
    with (
        gone_is_done(driver, volume, kind=VolumeRecord, ids=ids, errors=CONNECTION_GONE),
        lio_targets.detached_when_gone(driver, volume),
    ):
        driver.terminate_connection(volume, dict(connector) if connector else None, force=force)
    rbd_fencing.fence(driver, volume, connector, last=last, force=force)
    if last:
        with gone_is_done(driver, volume, kind=VolumeRecord, ids=ids, errors=CONNECTION_GONE):
            driver.remove_export(CONTEXT, volume)


def create_volume(driver: Any, volume: Any) -> Any:
    """Create a volume, and return the driver's model update. Raises what the driver raises."""
    update = driver.create_volume(volume)
    lvm_thick.clear_new(driver, volume)
    return update


def extend_volume(driver: Any, volume: Any, size: int) -> None:
    """Grow a volume to a size in GiB. Raises what the driver raises."""
    nfs_shares.require_mounted(driver, volume)
    with lvm_thick.growing(driver, volume):
        driver.extend_volume(volume, size)


def true_size(driver: Any, volume: Any) -> int | None:
    """Bytes of a volume in the storage, where it may be no whole number of GiB; None for all other drivers."""
    found = lvm_tools.logical_volume(driver, volume.name) if lvm_tools.is_lvm(driver) else None
    return found.size if found is not None else None


def create_snapshot(driver: Any, snapshot: Any) -> Any:
    """Take a snapshot, and return the driver's model update. Raises what the driver raises."""
    nfs_shares.require_mounted_for(driver, snapshot)
    rbd_snapshots.check_room(driver, snapshot.volume_name)
    update = driver.create_snapshot(snapshot)
    lvm_thick.make_room_for_table(driver, snapshot)
    return update


def revert_volume(driver: Any, volume: Any, snapshot: Any) -> Any:
    """Put a volume back to a snapshot, and return the driver's model update. Raises what the driver raises."""
    nfs_shares.require_mounted(driver, volume)
    lvm_thick.check_snapshot(driver, snapshot)
    update = driver.revert_to_snapshot(CONTEXT, volume, snapshot)
    lvm_thick.make_room_for_table(driver, snapshot)
    return update


def remove_inner_names(driver: Any, volume: Any) -> None:
    """After an attempt at a volume that came to nothing: remove what the driver calls by names of its own while it
    makes one. Raises what the driver raises."""
    lvm_thick.remove_inner_names(driver, volume)
    rbd_clones.remove_inner_names(driver, volume)
    remotefs_copies.remove_inner_names(driver, volume)


def clone_volume(driver: Any, volume: Any, source: Any) -> Any:
    """Create a volume from another one's data, and return the driver's model update. Raises what the driver raises."""
    nfs_shares.require_mounted(driver, source)
    rbd_snapshots.check_room_for_clone(driver, source)
    update = driver.create_cloned_volume(volume, source)
    rbd_clones.limit_depth(driver, volume)
    remotefs_copies.complete(driver, volume, update)
    lvm_thick.clear_new(driver, volume, start_gib=source.size)
    return update


def restore_snapshot(driver: Any, volume: Any, snapshot: Any) -> Any:
    """Create a volume from a snapshot's data, and return the driver's model update. Raises what the driver raises."""
    nfs_shares.require_mounted_for(driver, snapshot)
    lvm_thick.check_snapshot(driver, snapshot)
    update = driver.create_volume_from_snapshot(volume, snapshot)
    rbd_clones.limit_depth(driver, volume)
    remotefs_copies.complete(driver, volume, update)
    lvm_thick.clear_new(driver, volume, start_gib=snapshot.volume_size)
    return update


def delete_volume(driver: Any, volume: Any) -> None:
    """Delete a volume with whatever is left of its export, and its lock files. One that the driver says is gone is
    deleted. Raises what the driver raises otherwise."""
    nfs_shares.require_mounted(driver, volume)
    ids = (volume.id, volume.name_id)
    try:
        driver.remove_export(CONTEXT, volume)
    except exception.VolumeNotFound as error:
        if not names_it_alone(error, ids):
            raise
        # The deletion itself will tell.
    lio_targets.remove_rest(driver, volume)
    if not lvm_thick.delete_odd_volume(driver, volume):
        with (
            gone_is_done(driver, volume, kind=VolumeRecord, ids=ids, errors=VOLUME_GONE),
            rbd_clones.release_source(driver, volume),
        ):
            driver.delete_volume(volume)
    nfs_shares.check_is_gone(driver, volume)
    rbd_trash.purge_deleted(driver, volume)
    utils.clean_volume_file_locks(volume.id, driver)


def unmanage_volume(driver: Any, volume: Any) -> None:
    """Unmanage a volume, which stays in the storage without its export. Raises what the driver raises."""
    driver.remove_export(CONTEXT, volume)
    driver.unmanage(volume)
    utils.clean_volume_file_locks(volume.id, driver)


def delete_snapshot(driver: Any, snapshot: Any) -> None:
    """Delete a snapshot and its lock files. One that the driver says is gone is deleted. Raises what the driver raises
    otherwise."""
    nfs_shares.require_mounted_for(driver, snapshot)
    with gone_is_done(driver, snapshot.volume, kind=SnapshotRecord, ids=(snapshot.id,), errors=SNAPSHOT_GONE):
        driver.delete_snapshot(snapshot)
    utils.clean_snapshot_file_locks(snapshot.id, driver)


def delete_group_snapshot(driver: Any, group_snapshot: Any, snapshots: Sequence[Any]) -> Any:
    """Delete a group snapshot, and return the driver's model updates. One that the driver says is gone is deleted with
    all its snapshots. Raises what the driver raises otherwise."""
    volume = snapshots[0].volume if snapshots else None
    ids = (group_snapshot.id,)
    with gone_is_done(driver, volume, kind=GroupSnapshotRecord, ids=ids, errors=GROUP_SNAPSHOT_GONE):
        return driver.delete_group_snapshot(CONTEXT, group_snapshot, snapshots)
    return None, None


def list_manageable(driver: Any, kind: Literal["volumes", "snapshots"], known: Collection[Any]) -> list[dict[str, Any]]:
    """All volumes or snapshots in the storage, as the driver lists them for Cinder's manage_existing.

    ``known``: the versioned objects that the driver tells apart as managed already. Raises NotImplementedError for a
    driver that cannot list.
    """
    method = f"get_manageable_{kind}"
    if not implements(driver, method):
        raise NotImplementedError(method)
    return [dict(found) for found in getattr(driver, method)(known, None, PAGE_LIMIT, 0, ["size"], ["asc"])]
