"""How Cinder's volume manager starts a driver, and what it does for the volumes that are there already."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cinder import exception, objects
from cinder.volume import volume_utils

from csi_plugin.persistence.sealing import Sealer
from csi_plugin.storage.backend_configuration import BackendConfiguration
from csi_plugin.storage.cinder import driver_calls, driver_requirements
from csi_plugin.storage.cinder.adaptations import (
    default_options,
    lio_targets,
    lvm_thick,
    lvm_tools,
    nvmet_exports,
    nvmet_ports,
    rbd_trash,
)
from csi_plugin.storage.cinder.driver_classes import current_path, driver_class, implements
from csi_plugin.storage.cinder.option_definitions import without_value
from csi_plugin.storage.cinder.options import backend_configuration
from csi_plugin.storage.cinder.runtime import CONTEXT

LOG = logging.getLogger(__name__)

_MISCONFIGURED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What a driver's constructor raises when it trips over an option that has no value."""


def new_driver(configuration: BackendConfiguration, *, host: str) -> Any:
    """A driver object, not started.

    Raises as backend_configuration does, driver_requirements.MissingRequirement, ValueError for a constructor that
    trips over its options, and whatever else the driver's constructor raises.
    """
    path = current_path(configuration.driver)
    cls = driver_class(path)
    options = {**default_options.defaults_of(cls), **configuration.driver_options(), "volume_driver": path}
    driver_configuration = backend_configuration(
        configuration.name, options, strict=configuration.is_strict, secret=configuration.secrets
    )
    driver_requirements.check(path, cls, options)
    try:
        driver = cls(
            configuration=driver_configuration,
            host=host,
            cluster_name=None,
            is_vol_db_empty=False,  # the drivers that ask would otherwise clean up what they do not know
            active_backend_id=None,
        )
    except _MISCONFIGURED as error:
        unset = ", ".join(without_value(path, options)) or "none"
        raise ValueError(
            f"driver {path} cannot be created ({type(error).__name__}: {error}); "
            f"its own options without a value: {unset}"
        ) from error
    lvm_tools.let_lvcreate_wipe(driver)
    rbd_trash.prepare(driver, backend=configuration.name)
    return driver


def start(driver: Any, *, before_storage: Callable[[], None] = lambda: None) -> None:
    """Bring a driver object up. Raises whatever the driver raises: a wrong option, an array out of reach.

    ``before_storage``: called when the driver knows its options, and before it looks at its storage.
    """
    if not driver.supported:
        volume_utils.log_unsupported_driver_warning(driver)
        if not driver.configuration.safe_get("enable_unsupported_driver"):
            raise exception.InvalidConfigurationValue(
                option="enable_unsupported_driver", value="False (this driver is marked unsupported by Cinder)"
            )
    lvm_type = str(driver.configuration.safe_get("lvm_type"))
    nvmet_ports.check(driver)
    driver.do_setup(CONTEXT)
    before_storage()
    driver.check_for_setup_error()
    lvm_thick.prepare(driver, wanted_type=lvm_type)
    driver.init_capabilities()
    driver.set_throttle()
    driver.set_initialized()


def restore(driver: Any, host: str, attached: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """After a start: refresh provider ids, and export attached volumes again (nobody else does after a reboot).

    ``host``: host@backend of the volumes; ``attached``: connector properties of their connections, by a volume's id.
    One that cannot be exported is logged and keeps its status: the next connection exports it, or fails with the
    reason.
    """
    volumes: Sequence[Any] = ()
    if attached or implements(driver, "update_provider_info"):
        volumes = objects.VolumeList.get_all_by_host(CONTEXT, host)
    volumes = [volume for volume in volumes if _is_opened(volume)]
    if volumes and implements(driver, "update_provider_info"):
        _update_provider_info(driver, volumes, objects.SnapshotList.get_by_host(CONTEXT, host))
    for volume in volumes:
        if volume.id not in attached:
            continue
        try:
            if update := driver.ensure_export(CONTEXT, volume):
                volume.update(update)
                volume.save()
            if nvmet_exports.are_lost_at_reboot(driver) or lio_targets.has_lost(driver, volume, attached[volume.id]):
                for connector in attached[volume.id]:
                    driver_calls.connect(driver, volume, connector, save=volume.save)
        except Exception:
            # Drivers raise anything here, and one broken volume must not stop the others. One may have gone meanwhile.
            LOG.exception("volume %s cannot be exported again", volume.id)


def _is_opened(volume: Any) -> bool:
    """Whether the driver may be given a volume: not with a password that no sealing key opens."""
    if Sealer.is_sealed(volume.provider_auth):
        LOG.error("volume %s is not exported again: no sealing key that is configured opens its record", volume.id)
        return False
    return True


def _update_provider_info(driver: Any, volumes: Sequence[Any], snapshots: Sequence[Any]) -> None:
    volume_updates, snapshot_updates = driver.update_provider_info(volumes, snapshots)
    for owned, updates in ((volumes, volume_updates), (snapshots, snapshot_updates)):
        by_id = {found.id: found for found in owned}
        for update in updates or ():
            found = by_id.get(update["id"])  # some drivers report what they share with others
            if found is not None:
                found.provider_id = update["provider_id"]
                found.save()
