"""What Cinder's RBD driver forgets: the snapshot of its source that a clone was made from, and what restored volumes
stand on.

Cinder 29 removes the snapshot only where deleting the clone did not succeed at once. Each clone would leave a snapshot
behind, and a source with one is never deleted, only renamed.

It counts how many images a clone stands on only as far as those are clones of volumes. With snapshots that are
restored, and taken again, there is no end to it, but the kernel maps no image that stands on more than 16.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from oslo_config import cfg

from csi_plugin.instrumentation.tracing import before_call

CONF = cfg.CONF
LOG = logging.getLogger(__name__)


def is_rbd(driver: Any) -> bool:
    """Whether it is a driver whose clones stand on snapshots of their source, as Cinder's RBD driver has them."""
    # Asked of the class: some drivers answer for any attribute of an instance, with an error of their own.
    return hasattr(driver.__class__, "_delete_clone_parent_refs")


@contextmanager
def release_source(driver: Any, volume: Any) -> Iterator[None]:
    """Around the deletion of a volume: deletes the snapshot that it was cloned from. Does nothing for other drivers."""
    source = _source(driver, volume.name) if is_rbd(driver) else None
    yield
    if source is not None:
        _release(driver, volume.name, *source)


def remove_inner_names(driver: Any, volume: Any) -> None:
    """Remove the snapshot of its source that the driver takes while it clones to this volume, if a crash left it, and a
    source that was deleted meanwhile. Does nothing for other drivers, and while the clone itself is there."""
    if not is_rbd(driver) or not volume.source_volid:
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


def limit_depth(driver: Any, volume: Any) -> None:
    """After a volume was made from another's data: where it stands on more images than ``rbd_max_clone_depth``, it gets
    all of its data itself. Does nothing for other drivers. Raises what the driver raises."""
    if not is_rbd(driver):
        return
    limit = driver.configuration.rbd_max_clone_depth
    if limit <= 0 or _depth(driver, volume.name, limit) <= limit:
        return
    LOG.info("image %s stands on more than %d others, and is flattened", volume.name, limit)
    driver._flatten(driver.configuration.rbd_pool, volume.name)
    remove_inner_names(driver, volume)


def _depth(driver: Any, name: str, limit: int) -> int:
    """How many images one stands on; no more than one beyond the limit are counted."""
    from cinder.volume.drivers import rbd

    pool, depth = driver.configuration.rbd_pool, 0
    with rbd.RADOSClient(driver) as client:
        found: dict[str, str] = {"name": name}
        while depth <= limit:
            image = driver.rbd.Image(client.ioctx, **found, read_only=True)
            try:
                if image.parent_info()[0] != pool:
                    return depth + 1
                # Of one in the trash, the name leads nowhere.
                found = {"image_id": image.parent_id()}
            except driver.rbd.ImageNotFound:
                return depth
            finally:
                image.close()
            depth += 1
    return depth


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
