"""Volumes that the storage had before us: listing and adopting them (Cinder's manage_existing)."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import ADOPTED, TRUE_BYTES, KeyValueRecord, VolumeRecord
from csi_plugin.storage import already_managed
from csi_plugin.storage.cinder import cinder_utils, driver_calls, objects
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
    record in status ``managing``. Adopting the same reference again takes its place, under a new id, also where the
    driver had renamed the volume to the earlier id.
    """
    already_managed.check_volume(reference)
    volume = Volume(backend, size=1, name=name, status="managing", **kwargs)
    # Of two that run at once, the second would take the first for one that was interrupted.
    one_at_a_time = cinder_utils.synchronized(f"adopt-{backend.id}", external=True)
    with backend.slot():
        one_at_a_time(_manage)(backend, volume, reference)
        if grow and TRUE_BYTES in volume._ovo.admin_metadata:
            driver_calls.extend_volume(backend.calls, volume._ovo, volume._ovo.size)
            del volume._ovo.admin_metadata[TRUE_BYTES]
            volume.save()
    backend._volume_created(volume)
    return volume


def _manage(backend: "Backend", volume: Volume, reference: Mapping[str, str]) -> None:
    attempts = _Attempts(backend, reference)
    found, volume._ovo.size = _find(backend, volume, reference, attempts.ids)
    attempts.begin(volume)
    failpoint("adopt.recorded")
    try:
        update = backend.calls.manage_existing(volume._ovo, dict(found))
    except Exception:
        # Whatever the driver raised, the volume is not ours.
        STATE.store.delete(VolumeRecord(id=volume.id))
        if found == reference:
            attempts.end()
        raise
    failpoint("adopt.driver_done")
    volume._ovo.update({**(update or {}), "status": "available"})
    metadata = {key: value for key, value in volume._ovo.admin_metadata.items() if key != ADOPTED}
    size = driver_calls.true_size(backend.calls, volume._ovo)
    if size is not None and size < volume._ovo.size * GIB:
        metadata[TRUE_BYTES] = str(size)
    volume._ovo.admin_metadata = metadata
    volume.save()
    attempts.end()


def manageable_volumes(backend: "Backend") -> list[dict[str, Any]]:
    """What the storage holds; see ``Backend.manageable_volumes``."""
    with backend.slot():
        known = objects.VolumeList.get_all_by_host(CONTEXT, backend.host)
        return already_managed.mark(driver_calls.list_manageable(backend.calls, "volumes", known))


class _Attempts:
    """The attempts at adopting one reference: their ids are in a key-value as long as none of them has ended."""

    def __init__(self, backend: "Backend", reference: Mapping[str, str]) -> None:
        self._reference = json.dumps(dict(reference), sort_keys=True)
        digest = hashlib.sha256(f"{backend.id} {self._reference}".encode()).hexdigest()
        self._key = f"cinderbox/adoption/{digest[:32]}"
        self._stored = STATE.store.get(KeyValueRecord, self._key)
        ids = json.loads(self._stored.value or "[]") if self._stored is not None else []
        self.ids: list[str] = [one for one in ids if _is_unfinished(one)]
        """Of those before this one that were interrupted."""

    def begin(self, volume: Volume) -> None:
        """Record the volume as the one that is being adopted, in place of those before."""
        value = json.dumps([*self.ids, volume.id])
        if self._stored is None:
            self._stored = STATE.store.create(KeyValueRecord(id=self._key, value=value))
        else:
            self._stored.value = value
            self._stored = STATE.store.update(self._stored)
        volume._ovo.admin_metadata = {**(volume._ovo.admin_metadata or {}), ADOPTED: self._reference}
        volume.save()
        for volume_id in self.ids:
            STATE.store.delete(VolumeRecord(id=volume_id))

    def end(self) -> None:
        STATE.store.delete(KeyValueRecord(id=self._key))


def _is_unfinished(volume_id: str) -> bool:
    record = STATE.store.get(VolumeRecord, volume_id)
    return record is None or record.status == "managing"


def _find(
    backend: "Backend", volume: Volume, reference: Mapping[str, str], earlier: list[str]
) -> tuple[Mapping[str, str], int]:
    """Under which reference the storage has the volume, and its size in GiB: the one that was given, or a name that an
    interrupted attempt has given it. Raises what the driver says of the first."""
    try:
        return reference, backend.calls.manage_existing_get_size(volume._ovo, dict(reference))
    except Exception:
        # Drivers raise anything for what is not there.
        for volume_id in earlier:
            renamed = {"source-name": str(objects.Volume(CONTEXT, id=volume_id, _name_id=None).name)}
            with suppress(Exception):
                return renamed, backend.calls.manage_existing_get_size(volume._ovo, dict(renamed))
        raise
