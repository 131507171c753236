"""What Cinder's drivers for file shares forget about a clone or a restored volume.

They leave it at its source's size, however large it was asked for, and note the format of a source that snapshots keep
as qcow2 where the copy is raw. For OpenStack, Nova makes up for it.
"""

from collections.abc import Mapping
from typing import Any


def complete(driver: Any, volume: Any, update: Mapping[str, Any] | None) -> None:
    """After a copy was created: give it its size and format. Does nothing with other drivers.

    ``volume`` is a versioned object, ``update`` what the driver answered about it.
    """
    if not any(cls.__name__ == "RemoteFSSnapDriverBase" for cls in driver.__class__.__mro__):
        return
    from cinder.image import image_utils

    is_qcow2 = driver.configuration.safe_get(f"{driver.driver_prefix}_qcow2_volumes")
    file_format = "qcow2" if is_qcow2 else "raw"
    volume.update(dict(update or {}))
    volume.admin_metadata["format"] = file_format
    image_utils.resize_image(
        driver.local_path(volume), volume.size, run_as_root=driver._execute_as_root, file_format=file_format
    )
