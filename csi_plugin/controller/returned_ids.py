"""Ids that this process has returned to the CO: a record that says otherwise is out of a backup, not of a crash."""

import threading
import time


class ReturnedIds:
    """Ids of volumes, snapshots and group snapshots that were returned to the CO of late. Thread-safe.

    An interrupted creation of such an id is none: the metadata was restored from a backup that was taken in the middle
    of it, and since then the object may have got data. Older ones are covered by the undo window.
    """

    def __init__(self, *, seconds: float) -> None:
        """``seconds``: how long an id is kept."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        """In the order of time."""

    def add(self, record_id: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._since.pop(record_id, None)
            self._since[record_id] = now
            while self._since[oldest := next(iter(self._since))] < now - self._seconds:
                del self._since[oldest]

    def __contains__(self, record_id: str) -> bool:
        with self._lock:
            return record_id in self._since
