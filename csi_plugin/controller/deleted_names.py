"""The last generation of names that the CO has deleted: a name that comes again goes on from there.

So the id of a deleted volume is never given again, and what a node, a person or a late request still knows of it cannot
meet another volume. The generation is part of what ids follow from, so two controllers that create one name still
compute one id, and creation writes nothing for it.
"""

import re
import threading

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import KeyValueRecord

PREFIX = "cinderbox/generation/"

# As in Kubernetes: "pvc-" or "snapshot-" and the UID of what wants it.
_UNIQUE = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_LIMIT = 10_000


class DeletedNames:
    """Kept in the store, one key-value for each name, or, for names that carry a UUID and so do not come again, in
    memory, of the last ones: Kubernetes makes and deletes such names without end. Thread-safe."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._unique: dict[str, int] = {}
        """In the order of deletion."""

    def last_generation(self, kind: str, name: str) -> int:
        """0 for a name that was never deleted. To be read after the name's records: remembered before they go."""
        key = _key(kind, name)
        if _is_unique(name):
            with self._lock:
                return self._unique.get(key, 0)
        return _generation(self._store.get(KeyValueRecord, key))

    def remember(self, kind: str, name: str, generation: int) -> None:
        """Before the record of an object goes that the CO may know by its id. Raises PersistenceError."""
        key = _key(kind, name)
        if _is_unique(name):
            self._remember_unique(key, generation)
            return
        record = self._store.get(KeyValueRecord, key)
        if _generation(record) >= generation:
            return
        if record is None:
            self._store.create(KeyValueRecord(id=key, value=str(generation)))
        else:
            record.value = str(generation)
            self._store.update(record)

    def _remember_unique(self, key: str, generation: int) -> None:
        with self._lock:
            self._unique[key] = max(generation, self._unique.pop(key, 0))
            if len(self._unique) > _LIMIT:
                del self._unique[next(iter(self._unique))]


def _key(kind: str, name: str) -> str:
    return f"{PREFIX}{kind}/{name}"


def _is_unique(name: str) -> bool:
    return _UNIQUE.search(name) is not None


def _generation(record: KeyValueRecord | None) -> int:
    return int(record.value or 0) if record is not None else 0
