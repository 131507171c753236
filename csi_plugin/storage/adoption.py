"""Volumes that the storage had before us: listing and adopting them (Cinder's manage_existing)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.cinder import driver_calls, objects
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.volume import Volume

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend


def manage_existing(backend: "Backend", reference: Mapping[str, str], *, name: str, **kwargs: Any) -> Volume:
    """Adopt a volume; see ``Backend.manage_existing``. The driver may rename it in the storage.

    The record is stored after the driver's checks and before its call, like that of a new volume: a crash leaves a
    record in status ``managing``, and adopting again under the same id goes on.
    """
    volume = Volume(backend, size=1, name=name, status="managing", **kwargs)
    with backend.slot():
        volume._ovo.size = backend.driver.manage_existing_get_size(volume._ovo, dict(reference))
        volume.save()
        try:
            update = backend.driver.manage_existing(volume._ovo, dict(reference))
        except Exception:
            # Whatever the driver raised, the volume is not ours.
            STATE.store.delete(VolumeRecord(id=volume.id))
            raise
    volume._ovo.update({**(update or {}), "status": "available"})
    volume.save()
    backend._volume_created(volume)
    return volume


def manageable_volumes(backend: "Backend") -> list[dict[str, Any]]:
    """What the storage holds; see ``Backend.manageable_volumes``."""
    with backend.slot():
        known = objects.VolumeList.get_all_by_host(CONTEXT, backend.host)
        return driver_calls.list_manageable(backend.driver, "volumes", known)
