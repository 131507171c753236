"""The objects that recovery has to look at, so that it never searches all records while it runs."""

import threading

from csi_plugin.persistence.records import Record

Item = tuple[type[Record], str]


class Pending:
    """A set of (record type, id). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[Item, None] = {}
        self.added = threading.Event()
        """Set by add(); whoever waits for it clears it."""

    def add(self, kind: type[Record], record_id: str) -> None:
        with self._lock:
            self._items[kind, record_id] = None
        self.added.set()

    def discard(self, kind: type[Record], record_id: str) -> None:
        with self._lock:
            self._items.pop((kind, record_id), None)

    def items(self) -> list[Item]:
        """What is pending now, oldest first."""
        with self._lock:
            return list(self._items)
