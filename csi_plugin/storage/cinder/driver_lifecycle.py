"""What Cinder's volume manager does around a driver, which drivers rely on.

The manager itself cannot run here: it is a service, with a message queue and a database of its own. The Cinder runtime
page of the documentation has the table of its duties and where each is done.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cinder import exception, objects, utils
from cinder.volume import driver as volume_driver
from cinder.volume import volume_utils

from csi_plugin.storage.cinder.adaptations import rbd_clones, remotefs_copies
from csi_plugin.storage.cinder.runtime import CONTEXT

LOG = logging.getLogger(__name__)

_PER_GIB_LIMITS = (
    "read_iops_sec",
    "read_bytes_sec",
    "write_iops_sec",
    "write_bytes_sec",
    "total_iops_sec",
    "total_bytes_sec",
)

_BLOCK_SIZES = {
    "512": {"physical_block_size": "512", "logical_block_size": "512"},
    "512e": {"physical_block_size": "4096", "logical_block_size": "512"},
    "4k": {"physical_block_size": "4096", "logical_block_size": "4096"},
}
"""By Cinder's option disk_geometry; text, as Cinder's connectors expect it."""


def start(driver: Any) -> None:
    """Bring a driver object up. Raises whatever the driver raises: a wrong option, an array out of reach."""
    if not driver.supported:
        volume_utils.log_unsupported_driver_warning(driver)
        if not driver.configuration.safe_get("enable_unsupported_driver"):
            raise exception.InvalidConfigurationValue(
                option="enable_unsupported_driver", value="False (this driver is marked unsupported by Cinder)"
            )
    driver.do_setup(CONTEXT)
    driver.check_for_setup_error()
    driver.init_capabilities()
    driver.set_throttle()
    driver.set_initialized()


_FORGETFUL_TARGETS = {"cinder.volume.targets.nvmet"}
"""Modules of Cinder's target drivers whose ``ensure_export`` does nothing, and whose exports end with the kernel."""


def restore(driver: Any, host: str, attached: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """After a start: refresh provider ids, and export attached volumes again (nobody else does after a reboot).

    ``host``: host@backend of the volumes; ``attached``: connector properties of their connections, by a volume's id.
    One that cannot be exported is logged and keeps its status: the next connection exports it, or fails with the
    reason.
    """
    volumes: Sequence[Any] = ()
    if attached or implements(driver, "update_provider_info"):
        volumes = objects.VolumeList.get_all_by_host(CONTEXT, host)
    if volumes and implements(driver, "update_provider_info"):
        _update_provider_info(driver, volumes, objects.SnapshotList.get_by_host(CONTEXT, host))
    for volume in volumes:
        if volume.id not in attached:
            continue
        try:
            if update := driver.ensure_export(CONTEXT, volume):
                volume.update(update)
                volume.save()
            if type(attribute(driver, "target_driver")).__module__ in _FORGETFUL_TARGETS:
                for connector in attached[volume.id]:
                    connect(driver, volume, connector, save=volume.save)
        except Exception:
            # Drivers raise anything here, and one broken volume must not stop the others. One may have gone meanwhile.
            LOG.exception("volume %s cannot be exported again", volume.id)


def attribute(driver: Any, name: str) -> Any:
    """An attribute of a driver, or None. SolidFire's raises NotImplementedError for those that it does not have."""
    try:
        return getattr(driver, name, None)
    except NotImplementedError:
        return None


def implements(driver: Any, method: str) -> bool:
    """Whether a driver has its own version of a method; those of Cinder's base classes only raise or do nothing."""
    found = getattr(driver.__class__, method, None) or attribute(driver, method)
    return found is not None and getattr(found, "__module__", None) != volume_driver.__name__


def _update_provider_info(driver: Any, volumes: Sequence[Any], snapshots: Sequence[Any]) -> None:
    volume_updates, snapshot_updates = driver.update_provider_info(volumes, snapshots)
    for owned, updates in ((volumes, volume_updates), (snapshots, snapshot_updates)):
        by_id = {found.id: found for found in owned}
        for update in updates or ():
            found = by_id.get(update["id"])  # some drivers report what they share with others
            if found is not None:
                found.provider_id = update["provider_id"]
                found.save()


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
    try:
        if model_update:
            # Before access is granted: a repeat after a crash has to find the CHAP secret that the target got with it.
            volume.update(model_update)
            save()
        connection_info: dict[str, Any] = driver.initialize_connection(volume, connector)
    except Exception:
        # Whatever was raised, the export must not stay.
        driver.remove_export(CONTEXT, volume)
        raise
    _complete_connection_info(driver, volume, connector, connection_info, attach_mode)
    return connection_info


def disconnect(driver: Any, volume: Any, connector: Mapping[str, Any] | None, *, last: bool, force: bool) -> None:
    """Undo connect(); ``last`` when no other connection of the volume is left. ``connector`` None means every host."""
    driver.terminate_connection(volume, dict(connector) if connector else None, force=force)
    if last:
        driver.remove_export(CONTEXT, volume)


def clone_volume(driver: Any, volume: Any, source: Any) -> Any:
    """Make a volume of another one's data, and return the driver's model update. Raises what the driver raises."""
    update = driver.create_cloned_volume(volume, source)
    remotefs_copies.complete(driver, volume, update)
    return update


def restore_snapshot(driver: Any, volume: Any, snapshot: Any) -> Any:
    """Make a volume of a snapshot's data, and return the driver's model update. Raises what the driver raises."""
    update = driver.create_volume_from_snapshot(volume, snapshot)
    remotefs_copies.complete(driver, volume, update)
    return update


def delete_volume(driver: Any, volume: Any) -> None:
    """Delete a volume with whatever is left of its export, and its lock files. Raises what the driver raises."""
    driver.remove_export(CONTEXT, volume)
    with rbd_clones.source_released(driver, volume):
        driver.delete_volume(volume)
    utils.clean_volume_file_locks(volume.id, driver)


def unmanage_volume(driver: Any, volume: Any) -> None:
    """Let go of a volume, which stays in the storage without its export."""
    driver.remove_export(CONTEXT, volume)
    driver.unmanage(volume)
    utils.clean_volume_file_locks(volume.id, driver)


def delete_snapshot(driver: Any, snapshot: Any) -> None:
    """Delete a snapshot and its lock files. Raises what the driver raises."""
    driver.delete_snapshot(snapshot)
    utils.clean_snapshot_file_locks(snapshot.id, driver)


def extra_capabilities(driver: Any) -> dict[str, Any]:
    """What the backend's option extra_capabilities (JSON) adds to the stats of its pools. Raises ValueError."""
    text = driver.configuration.safe_get("extra_capabilities") or "{}"
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"option extra_capabilities is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"option extra_capabilities must be a JSON object, not {text}")
    return found


def _complete_connection_info(
    driver: Any, volume: Any, connector: Mapping[str, Any], connection_info: dict[str, Any], attach_mode: str
) -> None:
    """Add what the volume manager adds to a driver's answer, since connectors read it."""
    data = connection_info["data"]
    data["qos_specs"] = _front_end_qos(volume)
    data.setdefault("access_mode", attach_mode)
    data["enforce_multipath"] = connector.get("enforce_multipath", False)
    if data.get("encrypted") is None:
        data["encrypted"] = bool(volume.encryption_key_id)
    if volume.volume_type_id and volume.volume_type:
        cacheable = (volume.volume_type.extra_specs or {}).get("cacheable") == "<is> True"
        data["cacheable"] = cacheable and bool(data.get("cacheable", True))
    if "physical_block_size" not in data and "logical_block_size" not in data:
        data.update(_BLOCK_SIZES.get(driver.configuration.safe_get("disk_geometry"), {}))
    if data.get("discard") is None and driver.configuration.safe_get("report_discard_supported"):
        data["discard"] = True


def _front_end_qos(volume: Any) -> dict[str, Any] | None:
    """QoS that the host enforces, with limits per GiB worked out for this volume's size."""
    qos = volume.volume_type.qos_specs if volume.volume_type_id and volume.volume_type else None
    if not qos or qos.consumer not in ("front-end", "both"):
        return None
    specs = dict(qos.specs)
    for limit in _PER_GIB_LIMITS:
        per_gib = specs.pop(f"{limit}_per_gb", None)
        if per_gib is None:
            continue
        least = int(specs.pop(f"{limit}_per_gb_min", 0))
        value = max(least, int(per_gib) * int(volume.size))
        specs[limit] = min(value, int(specs.pop(f"{limit}_max", value)))
    return specs
