"""How many snapshots an RBD image may have: Cinder's driver takes any number, but the kernel has room for 510, and maps
no image that has more."""

from typing import Any

from cinder import exception

from csi_plugin.storage.cinder.adaptations.rbd_clones import is_rbd

LIMIT = 500
"""Fewer than the kernel's, for those that are taken at the same time."""


def check_room(driver: Any, image_name: str) -> None:
    """Before a snapshot of an image: raise SnapshotLimitExceeded when it has all that it may have. Does nothing for
    other drivers."""
    if not is_rbd(driver):
        return
    from cinder.volume.drivers import rbd

    with rbd.RBDVolumeProxy(driver, image_name, read_only=True) as image:
        found = sum(1 for _ in image.list_snaps())
    if found >= LIMIT:
        raise exception.SnapshotLimitExceeded(
            f"image {image_name} has {found} snapshots, with those that clones need, and nodes use none with more than "
            "510: delete some first"
        )


def check_room_for_clone(driver: Any, source: Any) -> None:
    """The same before a clone, which needs a snapshot of its source unless the driver copies all of it."""
    if is_rbd(driver) and driver.configuration.rbd_max_clone_depth > 0:
        check_room(driver, source.name)
