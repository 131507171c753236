"""Room that the scheduler has promised and that a backend's stats do not show yet."""

import threading
import time
from dataclasses import dataclass, field

_EXPIRES_AFTER = 120.0
"""Seconds after which a reservation ends whose volume was never created."""


@dataclass
class Reservation:
    """``size`` GiB in a pool for a volume that is being created."""

    pool: str
    size: int
    reserved_at: float = field(default_factory=time.monotonic)
    settled_at: float | None = None

    def is_over(self, stats_asked_at: float) -> bool:
        """Whether stats that the driver was asked for at that time (time.monotonic) count the volume already."""
        if self.settled_at is not None:
            return self.settled_at <= stats_asked_at
        return time.monotonic() - self.reserved_at > _EXPIRES_AFTER


class Reservations:
    """The reservations of one backend. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[Reservation] = []

    def add(self, pool: str, size: int) -> None:
        with self._lock:
            self._found.append(Reservation(pool, size))

    def settle(self, pool: str, size: int) -> None:
        """A volume of that size is in the storage: the reservation for one ends with the stats that are read next."""
        with self._lock:
            for reservation in self._found:
                if (reservation.pool, reservation.size, reservation.settled_at) == (pool, size, None):
                    reservation.settled_at = time.monotonic()
                    return

    def pending(self, stats_asked_at: float) -> list[Reservation]:
        """The reservations that stats do not show which the driver was asked for at that time."""
        with self._lock:
            self._found = [found for found in self._found if not found.is_over(stats_asked_at)]
            return list(self._found)
