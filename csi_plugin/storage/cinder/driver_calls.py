"""Calls of a driver with what Cinder's volume manager does before and after them, which drivers rely on.

The manager itself cannot run here: it is a service, with a message queue and a database of its own. The Cinder runtime
page of the documentation has the table of its duties and where each is done.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from cinder import exception, utils

from csi_plugin.known_secrets import keep_secrets_of_driver
from csi_plugin.storage.cinder import connection_info as completion
from csi_plugin.storage.cinder.adaptations import rbd_clones, rbd_fencing, remotefs_copies
from csi_plugin.storage.cinder.driver_answers import InvalidAnswer, check_connection_info, take_update
from csi_plugin.storage.cinder.driver_classes import implements
from csi_plugin.storage.cinder.runtime import CONTEXT

_PAGE_LIMIT = 1_000_000
"""Drivers page by themselves; Cinder's API asks for a limit, and here the caller gets the whole list."""


def connect(
    driver: Any,
    volume: Any,
    connector: Mapping[str, Any],
    *,
    save: Callable[[], object],
    attach_mode: str = "rw",
) -> dict[str, Any]:
    """Export a volume to a host and return Cinder's connection information.

    ``volume`` is a versioned object (its fields take the export's model update, which ``save`` stores), ``connector``
    os-brick's connector properties. Raises cinder.exception.InvalidInput for a connector that the driver cannot serve.
    """
    connector = dict(connector)
    try:
        driver.validate_connector(connector)
    except exception.InvalidConnectorException as error:
        raise exception.InvalidInput(reason=str(error)) from error
    model_update = driver.create_export(CONTEXT, volume, connector)
    keep_secrets_of_driver(model_update)
    try:
        if model_update:
            # Before access is granted: a repeat after a crash has to find the CHAP secret that the target got with it.
            take_update(volume, model_update)
            save()
        connection_info = _open(driver, volume, connector)
        completion.complete(driver, volume, connector, connection_info, attach_mode)
    except BaseException:
        # Whatever was raised, the export must not stay.
        driver.remove_export(CONTEXT, volume)
        raise
    return connection_info


def _open(driver: Any, volume: Any, connector: dict[str, Any]) -> dict[str, Any]:
    connection_info: dict[str, Any] = driver.initialize_connection(volume, connector)
    try:
        check_connection_info(connection_info)
    except InvalidAnswer:
        # The host has access now, and nobody could use it.
        driver.terminate_connection(volume, connector, force=False)
        raise
    keep_secrets_of_driver(connection_info)
    return connection_info


def disconnect(driver: Any, volume: Any, connector: Mapping[str, Any] | None, *, last: bool, force: bool) -> None:
    """End a connection, or those of every host when ``connector`` is None; ``last`` when the volume has no other.

    The host cannot write to the volume afterwards where the storage is able to refuse it. Raises
    cinder.exception.VolumeIsBusy while it may, which ``force`` leaves out.
    """
    driver.terminate_connection(volume, dict(connector) if connector else None, force=force)
    rbd_fencing.fence(driver, volume, connector, last=last, force=force)
    if last:
        driver.remove_export(CONTEXT, volume)


def clone_volume(driver: Any, volume: Any, source: Any) -> Any:
    """Create a volume from another one's data, and return the driver's model update. Raises what the driver raises."""
    update = driver.create_cloned_volume(volume, source)
    remotefs_copies.complete(driver, volume, update)
    return update


def restore_snapshot(driver: Any, volume: Any, snapshot: Any) -> Any:
    """Create a volume from a snapshot's data, and return the driver's model update. Raises what the driver raises."""
    update = driver.create_volume_from_snapshot(volume, snapshot)
    remotefs_copies.complete(driver, volume, update)
    return update


def delete_volume(driver: Any, volume: Any) -> None:
    """Delete a volume with whatever is left of its export, and its lock files. Raises what the driver raises."""
    driver.remove_export(CONTEXT, volume)
    with rbd_clones.release_source(driver, volume):
        driver.delete_volume(volume)
    utils.clean_volume_file_locks(volume.id, driver)


def unmanage_volume(driver: Any, volume: Any) -> None:
    """Unmanage a volume, which stays in the storage without its export. Raises what the driver raises."""
    driver.remove_export(CONTEXT, volume)
    driver.unmanage(volume)
    utils.clean_volume_file_locks(volume.id, driver)


def delete_snapshot(driver: Any, snapshot: Any) -> None:
    """Delete a snapshot and its lock files. Raises what the driver raises."""
    driver.delete_snapshot(snapshot)
    utils.clean_snapshot_file_locks(snapshot.id, driver)


def list_manageable(driver: Any, kind: Literal["volumes", "snapshots"], known: Collection[Any]) -> list[dict[str, Any]]:
    """All volumes or snapshots in the storage, as the driver lists them for Cinder's manage_existing.

    ``known``: the versioned objects that the driver tells apart as managed already. Raises NotImplementedError for a
    driver that cannot list.
    """
    method = f"get_manageable_{kind}"
    if not implements(driver, method):
        raise NotImplementedError(method)
    return [dict(found) for found in getattr(driver, method)(known, None, _PAGE_LIMIT, 0, ["size"], ["asc"])]
