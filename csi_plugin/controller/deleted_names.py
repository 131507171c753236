"""The last generation of names that the CO has deleted: a name that comes again goes on from there.

So the id of a deleted volume is never given again, and what a node, a person or a late request still knows of it cannot
meet another volume. The generation is part of what ids follow from, so two controllers that create one name still
compute one id, and creation writes nothing for it.
"""

import json
import re
import zlib
from collections.abc import Callable

from csi_plugin.persistence.base import RecordExists, RecordStore, RevisionConflict
from csi_plugin.persistence.records import KeyValueRecord

PREFIX = "cinderbox/generation/"

# As in Kubernetes: "pvc-" or "snapshot-" and the UID of what wants it.
_UNIQUE = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_SLOTS = 256
_NAMES_PER_SLOT = 64


class DeletedNames:
    """Kept in the store: a key-value for each name. Names that carry a UUID are made and deleted without end and
    hardly ever come again; they share key-values of a fixed number, which keep the last ones. Thread-safe."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def last_generation(self, kind: str, name: str) -> int:
        """0 for a name that was never deleted. To be read after the name's records: remembered before they go."""
        name = f"{kind}/{name}"
        if _is_unique(name):
            return _read_slot(self._store.get(KeyValueRecord, _slot_key(name))).get(name, 0)
        return _generation(self._store.get(KeyValueRecord, PREFIX + name))

    def remember(self, kind: str, name: str, generation: int) -> None:
        """Before the record of an object goes that the CO may know by its id. Raises PersistenceError."""
        name = f"{kind}/{name}"
        if _is_unique(name):
            self._set(_slot_key(name), lambda record: _add_to_slot(_read_slot(record), name, generation))
        else:
            self._set(PREFIX + name, lambda record: str(max(_generation(record), generation)))

    def _set(self, key: str, value_after: Callable[[KeyValueRecord | None], str]) -> None:
        """Deletions of other names change a shared key-value at the same time: each begins again from what is there."""
        while True:
            record = self._store.get(KeyValueRecord, key)
            value = value_after(record)
            if record is not None and record.value == value:
                return
            try:
                if record is None:
                    self._store.create(KeyValueRecord(id=key, value=value))
                else:
                    record.value = value
                    self._store.update(record)
                return
            except (RecordExists, RevisionConflict):
                continue


def _is_unique(name: str) -> bool:
    return _UNIQUE.search(name) is not None


def _generation(record: KeyValueRecord | None) -> int:
    return int(record.value or 0) if record is not None else 0


def _slot_key(name: str) -> str:
    return f"{PREFIX}unique/{zlib.crc32(name.encode('utf-8', 'surrogatepass')) % _SLOTS:02x}"


def _read_slot(record: KeyValueRecord | None) -> dict[str, int]:
    """In the order of deletion."""
    return dict(json.loads(record.value or "{}")) if record is not None else {}


def _add_to_slot(names: dict[str, int], name: str, generation: int) -> str:
    names[name] = max(generation, names.pop(name, 0))
    for oldest in list(names)[:-_NAMES_PER_SLOT]:
        del names[oldest]
    return json.dumps(names)
