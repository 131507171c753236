"""Volumes that the storage had before us: listing and adopting them (Cinder's manage_existing)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from csi_plugin.persistence.records import TRUE_BYTES, VolumeRecord
from csi_plugin.storage.cinder import driver_calls, objects
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.volume import Volume
from csi_plugin.units import GIB

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend


def manage_existing(
    backend: "Backend", reference: Mapping[str, str], *, name: str, grow: bool = False, **kwargs: Any
) -> Volume:
    """Adopt a volume; see ``Backend.manage_existing``. The driver may rename it in the storage.

    Records have whole GiB. A volume that is smaller than that is grown with ``grow``; without, its true size is kept in
    its admin_metadata.

    The record is stored after the driver's checks and before its call, like that of a new volume: a crash leaves a
    record in status ``managing``, and adopting again under the same id goes on.
    """
    volume = Volume(backend, size=1, name=name, status="managing", **kwargs)
    with backend.slot():
        volume._ovo.size = backend.calls.manage_existing_get_size(volume._ovo, dict(reference))
        volume.save()
        try:
            update = backend.calls.manage_existing(volume._ovo, dict(reference))
        except Exception:
            # Whatever the driver raised, the volume is not ours.
            STATE.store.delete(VolumeRecord(id=volume.id))
            raise
        volume._ovo.update({**(update or {}), "status": "available"})
        size = driver_calls.true_size(backend.calls, volume._ovo)
        if size is not None and size < volume._ovo.size * GIB:
            volume._ovo.admin_metadata = {**volume._ovo.admin_metadata, TRUE_BYTES: str(size)}
        volume.save()
        if grow and TRUE_BYTES in volume._ovo.admin_metadata:
            driver_calls.extend_volume(backend.calls, volume._ovo, volume._ovo.size)
            del volume._ovo.admin_metadata[TRUE_BYTES]
            volume.save()
    backend._volume_created(volume)
    return volume


def manageable_volumes(backend: "Backend") -> list[dict[str, Any]]:
    """What the storage holds; see ``Backend.manageable_volumes``."""
    with backend.slot():
        known = objects.VolumeList.get_all_by_host(CONTEXT, backend.host)
        return driver_calls.list_manageable(backend.calls, "volumes", known)
