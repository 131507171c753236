"""What a driver last said of its storage: pools, room, capabilities. Some drivers take long to say it."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from csi_plugin.process_locks import ProcessLock
from csi_plugin.storage.cinder import completed_stats, pool_facts
from csi_plugin.storage.cinder.driver_answers import exits_as_errors
from csi_plugin.storage.cinder.storage_away import StorageAway

LOG = logging.getLogger(__name__)

MAX_AGE = 60.0
"""Seconds after which ``recent`` asks the driver again; Cinder's backend_stats_polling_interval."""
WAIT = 10.0
"""Seconds that somebody waits for new stats."""
FULL = 0.001
"""Free share of a pool that is full: drivers round to hundredths of a GiB."""
NEARLY_FULL = 0.05
"""Free share of a thin pool of which people are told: when it is full, writes fail."""
_MIN_AGE = 1.0
"""Seconds between two readings of stats, however often volumes come and go."""


@dataclass
class _StatsRequest:
    """A driver that has been asked for its stats, in a thread, and since when (time.monotonic)."""

    at: float = field(default_factory=time.monotonic)
    has_ended: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class StatsReading:
    """What a driver said of its storage, always with ``pools``."""

    stats: dict[str, Any]
    asked_at: float
    """When (time.monotonic) the driver was asked."""
    recorded_gib: Mapping[str, int]
    """GiB of the volumes that the records had then, by pool, where the driver does not count what it provisioned."""


class DriverStats:
    """The stats of one driver that has started. Thread-safe."""

    def __init__(self, driver: Any, backend_id: str, *, recorded_gib: Callable[[], Mapping[str, int]]) -> None:
        """``recorded_gib``: GiB of the volumes that are recorded now, by pool; for drivers that do not count them.
        Asked once for each reading of the stats, so that a request need not look at all volumes."""
        self._driver = driver
        self._backend_id = backend_id
        self._recorded_gib = recorded_gib
        first = {
            name: value
            for name, value in completed_stats.complete(driver, driver.capabilities).items()
            if name not in ("properties", "vendor_prefix")
        }
        self._reading = self._new_reading(first, time.monotonic())
        self._lock = threading.Lock()
        self._is_read = ProcessLock()
        self._asked: _StatsRequest | None = None
        self._failure = ""
        self._is_away = False
        self._changed_at = 0.0

    @property
    def last(self) -> dict[str, Any]:
        return self._reading.stats

    def refresh(self) -> dict[str, Any]:
        """Ask the driver and wait for it. Raises what it raises."""
        with self._is_read:
            self._read()
        return self.last

    @property
    def error(self) -> str:
        """Why the driver could not tell its stats when it was last asked; empty when it could."""
        asked = self._asked
        if asked is not None and time.monotonic() - asked.at > MAX_AGE:
            return f"its driver was asked for its stats more than {MAX_AGE:.0f} s ago"
        return self._failure

    @property
    def away(self) -> str:
        """Why the storage cannot be used now, as far as is known; empty when it can. Stats that cannot be read say
        nothing of what else the storage does: what was read before counts."""
        if not is_up(self.last):
            return "its storage reports that it is down"
        return self._failure if self._is_away else ""

    def recent(self, max_age: float = MAX_AGE) -> dict[str, Any]:
        """The last stats, at once; if older than ``max_age`` seconds, the driver is asked in the background."""
        return self.recent_reading(max_age).stats

    def recent_reading(self, max_age: float = MAX_AGE) -> StatsReading:
        """``recent`` with what belongs to it."""
        reading = self._reading
        if self._changed_at > reading.asked_at:
            max_age = min(max_age, _MIN_AGE)
        if time.monotonic() - reading.asked_at > max_age:
            self._ask()
        return reading

    def read_again(self, min_age: float = _MIN_AGE, *, wait_seconds: float = WAIT) -> None:
        """Wait for new stats, unless the last are younger than ``min_age`` seconds.

        They stay when the driver fails, or does not answer in time.
        """
        end = time.monotonic() + wait_seconds
        if asked := self._asked:
            asked.has_ended.wait(max(0, end - time.monotonic()))
        if time.monotonic() - self._reading.asked_at > min_age:
            self._ask().wait(max(0, end - time.monotonic()))

    def volumes_changed(self) -> None:
        """A volume was created or deleted, so that the last stats are old."""
        self._changed_at = time.monotonic()

    def _ask(self) -> threading.Event:
        """Have a thread ask the driver, unless one does; the event comes when that has ended."""
        with self._lock:
            asked = self._asked
            if asked is None:
                asked = self._asked = _StatsRequest()
                threading.Thread(
                    target=self._try_to_read, args=(asked,), name=f"stats-{self._backend_id}", daemon=True
                ).start()
            return asked.has_ended

    def _try_to_read(self, asked: _StatsRequest) -> None:
        try:
            with self._is_read:
                self._read()
        except Exception as error:
            # Drivers raise anything here; the last stats stay, and are asked for again when they are old again.
            LOG.warning("stats of backend %s cannot be read", self._backend_id, exc_info=True)
            self._reading = replace(self._reading, asked_at=time.monotonic())
            self._failure = str(error) or type(error).__name__
            self._is_away = isinstance(error, StorageAway)
        finally:
            self._asked = None
            asked.has_ended.set()

    def _read(self) -> None:
        asked_at = time.monotonic()
        with exits_as_errors():
            stats = completed_stats.read(self._driver)
        self._reading = self._new_reading(stats, asked_at)
        self._failure, self._is_away = "", False

    def _new_reading(self, driver_stats: dict[str, Any], asked_at: float) -> StatsReading:
        stats = self._with_pools(driver_stats)
        counts = all("allocated_capacity_gb" in pool or "provisioned_capacity_gb" in pool for pool in stats["pools"])
        return StatsReading(stats, asked_at, {} if counts else self._recorded_gib())

    def _with_pools(self, stats: dict[str, Any]) -> dict[str, Any]:
        """Drivers that know no pools report one backend: that is its one pool, under the backend's name."""
        if "pools" in stats:
            return stats
        of_backend = (
            "driver_version",
            "shared_targets",
            "sparse_copy_volume",
            "storage_protocol",
            "vendor_name",
            "volume_backend_name",
        )
        pool = {name: value for name, value in stats.items() if name not in of_backend}
        return {**stats, "pools": [{**pool, "pool_name": self._backend_id}]}


def is_up(stats: dict[str, object]) -> bool:
    """Whether a backend's storage serves, as its driver says."""
    pools = stats.get("pools")
    reports = pools if isinstance(pools, list) and pools else [stats]
    return any(report.get("backend_state", "up") == "up" for report in reports)


def lost_snapshots(stats: Mapping[str, Any]) -> set[str]:
    """Ids of the snapshots that have lost their data, where the storage tells."""
    return {found for pool in stats["pools"] for found in pool.get(pool_facts.INVALID_SNAPSHOTS, ())}


def full_pools(stats: Mapping[str, Any]) -> list[str]:
    """Names of the pools in which nothing is free, as far as the driver knows its room."""
    return [str(pool.get("pool_name")) for pool in stats["pools"] if is_full(pool)]


def free_share(pool: Mapping[str, Any]) -> float | None:
    """The part of a pool that is free; None where the driver does not know its room ("infinite" and "unknown")."""
    free, total = pool.get("free_capacity_gb"), pool.get("total_capacity_gb")
    if not isinstance(free, int | float) or not isinstance(total, int | float) or total <= 0:
        return None
    return free / total


def is_full(pool: Mapping[str, Any]) -> bool:
    """Whether nothing is free in a pool, however much may still be promised."""
    share = free_share(pool)
    return share is not None and share <= FULL


def extra_capabilities(driver: Any) -> dict[str, Any]:
    """What the backend's option extra_capabilities (JSON) adds to the stats of its pools. Raises ValueError."""
    text = driver.configuration.safe_get("extra_capabilities") or "{}"
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"option extra_capabilities is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"option extra_capabilities must be a JSON object, not {text}")
    return found
