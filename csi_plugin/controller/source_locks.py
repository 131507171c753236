"""Locks of the sources of copies: many may read one at once, but not while it is being deleted or changed."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from csi_plugin.protocol.errors import aborted


class SourceLocks:
    """Sources in use, by resource (``volume/<id>``, ``snapshot/<id>``). Thread-safe.

    The in-flight table lets one operation at a time at a resource; copies of one volume must not exclude each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: Counter[str] = Counter()
        self._changing: set[str] = set()

    @contextmanager
    def reading(self, *resources: str) -> Iterator[None]:
        """Keep sources from being removed for the length of a block; ABORTED when that has begun."""
        with self._lock:
            if busy := self._changing.intersection(resources):
                raise aborted(f"{min(busy)} is being changed or deleted")
            self._readers.update(resources)
        try:
            yield
        finally:
            with self._lock:
                self._readers.subtract(resources)
                self._readers += Counter()  # drops what nobody reads any more

    @contextmanager
    def changing(self, *resources: str) -> Iterator[None]:
        """Keep others from reading for the length of a block; ABORTED while somebody does."""
        with self._lock:
            for resource in resources:
                if resource in self._changing or self._readers[resource] > 0:
                    raise aborted(f"{resource} is the source of an operation that is running")
            self._changing.update(resources)
        try:
            yield
        finally:
            with self._lock:
                self._changing.difference_update(resources)
