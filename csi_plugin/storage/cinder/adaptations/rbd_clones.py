"""What Cinder's RBD driver forgets: the snapshot of its source that a clone was made from.

Cinder 29 removes it only where deleting the clone did not succeed at once. Each clone would leave a snapshot behind,
and a source with one is never deleted, only renamed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOG = logging.getLogger(__name__)


@contextmanager
def release_source(driver: Any, volume: Any) -> Iterator[None]:
    """Around the deletion of a volume: deletes the snapshot that it was cloned from. Does nothing for other drivers."""
    # Asked of the class: some drivers answer for any attribute of an instance, with an error of their own.
    source = _source(driver, volume.name) if hasattr(driver.__class__, "_delete_clone_parent_refs") else None
    yield
    if source is not None:
        _release(driver, volume.name, *source)


def _source(driver: Any, name: str) -> tuple[str, str] | None:
    """Image and snapshot that an image was cloned from, if the driver created that snapshot for it."""
    from cinder.volume.drivers import rbd

    try:
        with rbd.RBDVolumeProxy(driver, name, read_only=True) as image:
            _pool, source, snapshot = driver._get_clone_info(image, name)
    except driver.rbd.ImageNotFound:
        return None
    return (source, snapshot) if source and snapshot else None


def _release(driver: Any, name: str, source: str, snapshot: str) -> None:
    from cinder.volume.drivers import rbd

    with rbd.RADOSClient(driver) as client:
        if f"{name}.deleted" in driver.RBDProxy().list(client.ioctx):
            return  # it has clones itself, and goes with the last of them, as do its sources
        try:
            driver._delete_clone_parent_refs(client, source, snapshot)
        except driver.rbd.ImageNotFound:
            return  # the driver did it
        except driver.rbd.Error as error:
            LOG.warning("snapshot %s of image %s stays: %s", snapshot, source, error)
