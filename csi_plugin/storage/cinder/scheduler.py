"""Where a new volume goes, and how much room there is: Cinder's scheduler, run in this process.

Its filters and weighers (those that Cinder's options scheduler_default_filters and scheduler_default_weighers name)
work on the last stats of the backends. A choice reserves its size until the volume shows in the stats, so requests that
run side by side do not all see the same free space. Topology is one more filter.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cinder import exception

from csi_plugin.storage.cinder import driver_stats
from csi_plugin.storage.cinder.pools import PROVISIONING_TYPE, Pool, VolumeSpec, best_of, pools_of
from csi_plugin.storage.cinder.storage_away import StorageAway
from csi_plugin.topology import Segments, is_accessible
from csi_plugin.units import GIB

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

BOUNDLESS = (2**63 - 1) // GIB * GIB
"""Bytes available where a driver reports infinite or unknown capacity: the most that CSI can say, in whole GiB."""


class NoPool(exception.NoValidBackend):  # type: ignore[misc]  # Cinder has no type information
    """No pool can take the volume; the message says why for each. gRPC: RESOURCE_EXHAUSTED."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Room for volumes of one kind."""

    available_bytes: int
    maximum_bytes: int | None
    """Size of the largest volume that fits; None where a driver does not know its room."""
    minimum_bytes: int | None = GIB
    """Cinder's unit."""


_lock = threading.Lock()


def choose(
    backends: Iterable["Backend"],
    *,
    size: int,
    extra_specs: Mapping[str, str] | None = None,
    pool_name: str | None = None,
    topology: Sequence[Segments] | None = None,
    multiattach: bool = False,
) -> tuple["Backend", str]:
    """The backend and pool for a volume of ``size`` GiB, and its room reserved there.

    ``topology``: where the volume must be reachable, the most wanted first. When nothing fits, the stats are read again
    first: what was deleted since then makes room. Raises NoPool, and StorageAway when a backend that might take it is
    away. Thread-safe.
    """
    spec = VolumeSpec(
        size=size,
        extra_specs=extra_specs or {},
        pool_name=pool_name,
        topology=topology or (),
        multiattach=multiattach,
    )
    candidates = list(backends)
    try:
        return _choose(candidates, spec)
    except (NoPool, StorageAway):
        end = time.monotonic() + driver_stats.WAIT
        for backend in candidates:
            backend.driver_stats.read_again(wait_seconds=end - time.monotonic())
        return _choose(candidates, spec)


def capacity(
    backends: Iterable["Backend"],
    *,
    extra_specs: Mapping[str, str] | None = None,
    pool_name: str | None = None,
    topology: Sequence[Segments] | None = None,
    multiattach: bool = False,
) -> Capacity:
    """Room in all pools that would take such a volume if it were small enough; none in those of a storage that is away.
    From the last stats; never waits."""
    spec = VolumeSpec(
        size=0,
        extra_specs=extra_specs or {},
        pool_name=pool_name,
        topology=topology or (),
        multiattach=multiattach,
    )
    with _lock:
        fitting = _fitting_pools(list(backends), spec).pools
    all_free = [pool.free_gib(spec) for pool in fitting]
    known = [free for free in all_free if free is not None]
    if len(known) < len(all_free):
        return Capacity(available_bytes=BOUNDLESS, maximum_bytes=None)
    largest = (pool.largest_gib(spec) for pool in fitting)
    return Capacity(
        available_bytes=sum(max(int(free * GIB), 0) for free in known),
        maximum_bytes=max((max(int(size), 0) * GIB for size in largest if size is not None), default=0),
    )


def reserve_growth(backend: "Backend", *, pool_name: str, size: int, extra_specs: Mapping[str, str]) -> str:
    """Reserve room for ``size`` GiB more of a volume, by the filters that a creation passes, and return the pool.
    What the pool must be able to do does not count: the volume, or what it is a copy of, is there already.

    The reservation is the caller's to settle. A ``pool_name`` that the driver does not report is any pool, and where it
    reports none, the driver decides. A suspended backend takes no new volumes; those it has may grow. When nothing
    fits, the stats are read again first. Raises NoPool, and StorageAway while the storage is away. Thread-safe.
    """
    spec = VolumeSpec(
        size=size,
        extra_specs={key: value for key, value in extra_specs.items() if key == PROVISIONING_TYPE},
        pool_name=pool_name or None,
        topology=(),
        multiattach=False,
    )
    try:
        return _reserve_growth(backend, spec)
    except (NoPool, StorageAway):
        backend.driver_stats.read_again()
        return _reserve_growth(backend, spec)


def check_takes_snapshots(backend: "Backend", *, pool_name: str) -> None:
    """Raise NoPool when a pool is full, by stats that are read again then; StorageAway while the storage is away."""
    try:
        _check_takes_snapshots(backend, pool_name)
    except (NoPool, StorageAway):
        backend.driver_stats.read_again()
        _check_takes_snapshots(backend, pool_name)


def has_room(backend: "Backend", *, pool_name: str, size: int, extra_specs: Mapping[str, str]) -> bool:
    """Whether a pool has room for ``size`` GiB more, by stats that are read now; True where a driver does not know.

    An empty ``pool_name`` is any pool. Thread-safe.
    """
    spec = VolumeSpec(
        size=size,
        extra_specs=extra_specs,
        pool_name=pool_name or None,
        topology=(),
        multiattach=False,
    )
    backend.driver_stats.read_again()
    pools = [pool for pool in pools_of(backend) if pool_name in ("", pool.name)]
    return not pools or any(pool.has_room(spec) for pool in pools)


def _choose(backends: Sequence["Backend"], spec: VolumeSpec) -> tuple["Backend", str]:
    with _lock:
        found = _fitting_pools(backends, spec)
        for segments in spec.topology or ({},):
            reachable = [
                pool for pool in found.pools if is_accessible(pool.backend.topology, [segments] if segments else ())
            ]
            if reachable:
                best = best_of(reachable, spec)
                best.backend.reservations.add(best.name, spec.size)
                return best.backend, best.name
    raise found.error()


def _check_takes_snapshots(backend: "Backend", pool_name: str) -> None:
    _check_is_there(backend)
    for pool in pools_of(backend):
        if pool.name == pool_name and (reason := pool.reason_against_any()):
            raise NoPool(reason=f"{backend.name}#{pool.name}: {reason}")


def _check_is_there(backend: "Backend") -> None:
    if away := backend.driver_stats.away:
        raise StorageAway(f"backend {backend.name}: {away}")


def _reserve_growth(backend: "Backend", spec: VolumeSpec) -> str:
    _check_is_there(backend)
    with _lock:
        pools = pools_of(backend)
        if spec.pool_name not in [pool.name for pool in pools]:
            spec = replace(spec, pool_name=None)
        reasons = []
        for pool in pools:
            reason = pool.reason_against(spec)
            if reason is None:
                backend.reservations.add(pool.name, spec.size)
                return pool.name
            reasons.append(f"{backend.name}#{pool.name}: {reason}")
    if not reasons:
        return ""
    raise NoPool(reason=f"no pool fits: {'; '.join(reasons)}")


@dataclass(frozen=True)
class _Fitting:
    """The pools that pass, and why each of the others does not."""

    pools: list[Pool]
    reasons: list[str]
    is_any_away: bool
    """Whether a backend's storage is away that might take the volume when it is back."""

    def error(self) -> Exception:
        reason = f"no pool fits: {'; '.join(self.reasons) or 'no backend is ready'}"
        return StorageAway(reason) if self.is_any_away else NoPool(reason=reason)


def _fitting_pools(backends: Sequence["Backend"], spec: VolumeSpec) -> _Fitting:
    fitting, reasons, is_any_away = [], [], False
    for backend in backends:
        if backend.is_suspended:
            reasons.append(f"backend {backend.name} is suspended: it takes no new volumes")
            continue
        if away := backend.driver_stats.away:
            backend.driver_stats.recent()  # which asks again when that is due
            reasons.append(f"backend {backend.name}: {away}")
            is_any_away = is_any_away or is_accessible(backend.topology, spec.topology)
            continue
        for pool in pools_of(backend):
            reason = pool.reason_against(spec)
            if reason is None:
                fitting.append(pool)
            else:
                reasons.append(f"{backend.name}#{pool.name}: {reason}")
    return _Fitting(fitting, reasons, is_any_away)
