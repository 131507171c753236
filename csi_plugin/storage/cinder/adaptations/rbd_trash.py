"""What Cinder's RBD driver does with the pool's trash: it moves images there that it cannot remove at once, and forgets
them; or, with enable_deferred_deletion, purges all of it, whoever put it there."""

import logging
from collections.abc import Callable
from typing import Any

from cinder.volume import volume_utils

LOG = logging.getLogger(__name__)

_waiting: set[str] = set()
"""Names of the volumes that this process deleted, and that are in a trash still. What a person has put there may be
wanted back."""


def prepare(driver: Any) -> None:
    """Before a driver's start: what it purges from time to time are volumes. Does nothing for other drivers."""
    if _is_rbd(driver):
        driver._trash_purge = lambda: _purge(driver, _is_volume)


def purge_deleted(driver: Any, volume: Any) -> None:
    """After a volume's deletion: remove it from the trash, with those that could not go before. Never raises, and does
    nothing for other drivers."""
    if _is_rbd(driver):
        names = {*_waiting, volume.name}
        stay = _purge(driver, names.__contains__)
        _waiting.difference_update(names - stay)
        _waiting.update(stay)


def _is_volume(name: str) -> bool:
    return volume_utils.extract_id_from_volume_name(name.removesuffix(".deleted")) is not None


def _purge(driver: Any, is_own: Callable[[str], bool]) -> set[str]:
    """Remove what is our own; the names of what cannot go yet."""
    from cinder.volume.drivers import rbd

    stay = set()
    try:
        with rbd.RADOSClient(driver) as client:
            for entry in driver.RBDProxy().trash_list(client.ioctx):
                if is_own(entry["name"]) and not _remove(driver, client, entry):
                    stay.add(str(entry["name"]))
    except Exception as error:  # noqa: BLE001
        # The deletion that comes before this has ended well, and the next one looks again.
        LOG.warning("the trash cannot be purged: %s", error)
    return stay


def _remove(driver: Any, client: Any, entry: Any) -> bool:
    try:
        driver.RBDProxy().trash_remove(client.ioctx, entry["id"])
    except Exception as error:  # noqa: BLE001
        # Its delay has not passed, or something still needs it.
        LOG.info("%s stays in the trash: %s", entry["name"], error)
        return False
    LOG.info("%s is gone from the trash", entry["name"])
    return True


def _is_rbd(driver: Any) -> bool:
    # Asked of the class: some drivers answer for any attribute of an instance, with an error of their own.
    return hasattr(driver.__class__, "_trash_purge")
