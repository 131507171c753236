"""The objects that recovery has to review, so that it never searches all records while it runs."""

import threading
import time

from csi_plugin.persistence.records import Record

Item = tuple[type[Record], str]


class RecoveryQueue:
    """(record type, id) with the time of the next review. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Item, float] = {}
        self._woken = False

    def add(self, kind: type[Record], record_id: str, *, after_seconds: float = 0) -> None:
        """Have an object reviewed after that time; whatever was planned for it before is off."""
        with self._changed:
            self._due[kind, record_id] = time.monotonic() + after_seconds
            self._changed.notify_all()

    def discard(self, kind: type[Record], record_id: str) -> None:
        with self._changed:
            self._due.pop((kind, record_id), None)

    def items(self, *, due: bool = False) -> list[Item]:
        """What is queued, or only what is due now; the longest due first."""
        with self._changed:
            latest = time.monotonic() if due else float("inf")
            return sorted((item for item, at in self._due.items() if at <= latest), key=lambda item: self._due[item])

    def wait(self, timeout: float) -> None:
        """Return when something is due, when wake() was called, or after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        with self._changed:
            while not self._woken and (left := min([end, *self._due.values()]) - time.monotonic()) > 0:
                self._changed.wait(left)

    def wake(self) -> None:
        """Let wait() return at once from now on."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()
