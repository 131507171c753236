"""Locks of the sources of copies: many may read one at once, but not while it is being deleted or changed."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import aborted


class SourceLocks:
    """Sources in use, by resource (``volume/<id>``, ``snapshot/<id>``). Thread-safe.

    The in-flight table lets one operation at a time at a resource; copies of one volume must not exclude each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: Counter[str] = Counter()
        self._changing: set[str] = set()

    @contextmanager
    def reading(self, *resources: str) -> Iterator[None]:
        """Keep sources from being removed for the length of a block; ABORTED when that does not end in time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._changing.intersection(resources), current_rpc.time_to_queue())
            if busy := self._changing.intersection(resources):
                raise aborted(f"{min(busy)} is being changed or deleted")
            self._readers.update(resources)
        try:
            yield
        finally:
            with self._changed:
                self._readers.subtract(resources)
                self._readers += Counter()  # drops what nobody reads any more
                self._changed.notify_all()

    @contextmanager
    def changing(self, *resources: str) -> Iterator[None]:
        """Keep others from reading for the length of a block; ABORTED when somebody does to the end of the time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._in_use(resources), current_rpc.time_to_queue())
            if busy := self._in_use(resources):
                raise aborted(f"{busy} is the source of an operation that is running")
            self._changing.update(resources)
        try:
            yield
        finally:
            with self._changed:
                self._changing.difference_update(resources)
                self._changed.notify_all()

    def _in_use(self, resources: Sequence[str]) -> str | None:
        return next((found for found in resources if found in self._changing or self._readers[found] > 0), None)
