"""What Cinder's drivers for file shares forget about a clone or a restored volume.

They leave it at its source's size, however large it was asked for, and note the format of a source that snapshots keep
as qcow2 where the copy is raw. For OpenStack, Nova makes up for it. A clone begins with a snapshot of its source, which
a crash leaves there: the source is qcow2 then, which no node attaches, and waits for its snapshot to be deleted.
"""

import logging
from collections.abc import Mapping
from typing import Any

from cinder import objects

from csi_plugin.instrumentation.tracing import before_call
from csi_plugin.persistence.records import SnapshotRecord
from csi_plugin.storage.library_state import STATE

LOG = logging.getLogger(__name__)


def complete(driver: Any, volume: Any, update: Mapping[str, Any] | None) -> None:
    """After a copy was created: give it its size and format. Does nothing with other drivers.

    ``volume`` is a versioned object, ``update`` what the driver answered about it.
    """
    if not _is_remotefs(driver):
        return
    from cinder.image import image_utils

    is_qcow2 = driver.configuration.safe_get(f"{driver.driver_prefix}_qcow2_volumes")
    file_format = "qcow2" if is_qcow2 else "raw"
    volume.update(dict(update or {}))
    volume.admin_metadata["format"] = file_format
    before_call(driver)
    image_utils.resize_image(
        driver.local_path(volume), volume.size, run_as_root=driver._execute_as_root, file_format=file_format
    )


def remove_inner_names(driver: Any, volume: Any) -> None:
    """Delete the snapshot of its source that the driver takes while it clones to this volume, if a crash left it. Does
    nothing with other drivers."""
    if not _is_remotefs(driver) or not volume.source_volid:
        return
    for record in STATE.store.find(SnapshotRecord, volume_id=volume.source_volid):
        if record.display_name != f"tmp-snap-{volume.id}":
            continue
        LOG.warning("removing snapshot %s of volume %s, which an interrupted clone left", record.id, record.volume_id)
        snapshot = objects.Snapshot.get_by_id(volume.obj_context, record.id)
        driver.delete_snapshot(snapshot)
        snapshot.destroy()


def _is_remotefs(driver: Any) -> bool:
    return any(cls.__name__ == "RemoteFSSnapDriverBase" for cls in driver.__class__.__mro__)
