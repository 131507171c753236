"""The list of a backend's volumes, as cinderlib shows it."""

import threading
from typing import Any

from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.library_state import STATE, find_objects, object_of
from csi_plugin.storage.live_list import LiveList
from csi_plugin.storage.volume import Volume


class BackendVolumes:
    """Read at the first use, and from then on one list, kept in step with what this process creates and deletes.
    Thread-safe."""

    def __init__(self, backend_name: str) -> None:
        self._backend_name = backend_name
        self._volumes: list[Volume] | None = None
        self._lock = threading.RLock()

    def all(self) -> list[Volume]:
        with self._lock:
            if self._volumes is None:
                self._volumes = LiveList(self.find())
            return self._volumes

    def find(self, volume_id: str | None = None, volume_name: str | None = None) -> list[Volume]:
        """Those of an id, a name or both, read at each call."""
        # From the store, not from the plugin: a third party's plugin holds secrets sealed and knows no revisions.
        wanted: dict[str, Any] = {"backend": self._backend_name, "display_name": volume_name or None}
        if not volume_id:
            return find_objects(VolumeRecord, **wanted)
        record = STATE.store.get(VolumeRecord, str(volume_id))
        if record is None or record.backend != self._backend_name:
            return []
        return [object_of(record)] if not volume_name or record.display_name == volume_name else []

    def refresh(self) -> None:
        """Read them again if they have been read."""
        with self._lock:
            if self._volumes is not None:
                self._volumes[:] = self.find()

    def forget(self) -> None:
        """Read them again at the next use."""
        with self._lock:
            self._volumes = None

    def add(self, volume: Volume) -> None:
        """Have one more volume, or another object of one."""
        with self._lock:
            if self._volumes is None:
                return
            if volume in self._volumes:
                self._volumes[self._volumes.index(volume)] = volume
            else:
                self._volumes.append(volume)

    def remove(self, volume: Volume) -> None:
        with self._lock:
            if self._volumes is not None:
                self._volumes[:] = [known for known in self._volumes if known.id != volume.id]
