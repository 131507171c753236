"""What Cinder's RBD driver forgets: the snapshot of its source that a clone was made from.

Cinder 29 removes it only where deleting the clone did not succeed at once. Each clone would leave a snapshot behind,
and a source with one is never deleted, only renamed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from oslo_config import cfg

from csi_plugin.instrumentation.tracing import before_call

CONF = cfg.CONF
LOG = logging.getLogger(__name__)


@contextmanager
def release_source(driver: Any, volume: Any) -> Iterator[None]:
    """Around the deletion of a volume: deletes the snapshot that it was cloned from. Does nothing for other drivers."""
    # Asked of the class: some drivers answer for any attribute of an instance, with an error of their own.
    source = _source(driver, volume.name) if hasattr(driver.__class__, "_delete_clone_parent_refs") else None
    yield
    if source is not None:
        _release(driver, volume.name, *source)


def remove_inner_names(driver: Any, volume: Any) -> None:
    """Remove the snapshot of its source that the driver takes while it clones to this volume, if a crash left it, and a
    source that was deleted meanwhile. Does nothing for other drivers, and while the clone itself is there."""
    if not hasattr(driver.__class__, "_delete_clone_parent_refs") or not volume.source_volid:
        return
    from cinder.volume.drivers import rbd

    source, snapshot = CONF.volume_name_template % volume.source_volid, f"{volume.name}.clone_snap"
    for name in (source, f"{source}.deleted"):
        try:
            with rbd.RBDVolumeProxy(driver, name) as image:
                names = [found["name"] for found in image.list_snaps()]
                if snapshot not in names or _has_children(image, snapshot):
                    continue
                LOG.warning("removing snapshot %s of image %s, which an interrupted clone left", snapshot, name)
                if image.is_protected_snap(snapshot):
                    before_call(driver)
                    image.unprotect_snap(snapshot)
                before_call(driver)
                image.remove_snap(snapshot)
            if name.endswith(".deleted") and names == [snapshot]:
                with rbd.RADOSClient(driver) as client:
                    driver.RBDProxy().remove(client.ioctx, name)
        except driver.rbd.ImageNotFound:
            continue


def _has_children(image: Any, snapshot: str) -> bool:
    image.set_snap(snapshot)
    try:
        return bool(image.list_children())
    finally:
        image.set_snap(None)


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
