"""Slots for calls of one driver: how many may run at once."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from csi_plugin.instrumentation import tracing
from csi_plugin.process_locks import call_in_children


class BackendBusy(Exception):
    """No slot for a driver call became free in time; the driver was asked for nothing. gRPC: UNAVAILABLE."""


class Slots:
    """The slots of a backend. Thread-safe."""

    def __init__(self, backend_id: str, number: int) -> None:
        self._backend_id = backend_id
        self._number = number
        self._free = threading.BoundedSemaphore(number)
        self._held = threading.local()
        self._taken: dict[int, float] = {}
        """Which threads hold a slot since when (time.monotonic)."""
        call_in_children(self._forget_other_threads)

    def _forget_other_threads(self) -> None:
        """In a forked child: of the threads that held slots, only the one that forked is there."""
        own = threading.get_ident()
        self._taken = {thread: since for thread, since in self._taken.items() if thread == own}
        self._free = threading.BoundedSemaphore(self._number)
        for _ in self._taken:
            self._free.acquire()

    @contextmanager
    def hold(
        self, *, before: Callable[[], None] | None, time_to_wait: Callable[[], float | None] | None
    ) -> Iterator[None]:
        """Hold a slot; a thread that holds one may enter again without taking another.

        ``before``: called when the slot is taken, and may raise; ``time_to_wait``: the seconds that this thread may
        wait, None for ever. Raises BackendBusy.
        """
        depth = getattr(self._held, "depth", 0)
        if depth == 0:
            self._take(time_to_wait)
            if before is not None:
                try:
                    before()
                except BaseException:
                    self._release()
                    raise
        self._held.depth = depth + 1
        try:
            yield
        finally:
            self._held.depth = depth
            if depth == 0:
                self._release()

    def _take(self, time_to_wait: Callable[[], float | None] | None) -> None:
        began = time.monotonic()
        if not self._free.acquire(blocking=False):
            with tracing.span("backend.wait_for_slot", backend=self._backend_id):
                if not self._free.acquire(timeout=time_to_wait() if time_to_wait is not None else None):
                    raise self._busy(began)
        self._taken[threading.get_ident()] = time.monotonic()

    def _busy(self, began: float) -> BackendBusy:
        now, taken = time.monotonic(), list(self._taken.values())
        return BackendBusy(
            f"backend {self._backend_id} is busy: {len(taken)} operations call its driver (max_concurrent_operations), "
            f"the longest for {now - min(taken, default=now):.0f} s, and none ended within {now - began:.0f} s"
        )

    def _release(self) -> None:
        del self._taken[threading.get_ident()]
        self._free.release()
