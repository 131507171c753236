"""Where a new volume goes, and how much room there is: Cinder's scheduler, run in this process.

Its filters and weighers (those that Cinder's options scheduler_default_filters and scheduler_default_weighers name)
work on the last stats of the backends. A choice reserves its size until the volume shows in the stats, so requests that
run side by side do not all see the same free space. Topology is one more filter.
"""

import copy
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cinder import exception
from cinder.common import constants
from cinder.scheduler import filters, host_manager, sched_utils
from oslo_config import cfg
from oslo_utils import importutils, timeutils

from csi_plugin.storage.cinder import driver_stats

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

GIB = 1024**3
BOUNDLESS = (2**63 - 1) // GIB * GIB
"""Bytes available where a driver reports infinite or unknown capacity: the most that CSI can say, in whole GiB."""

_FULL = 0.001
"""Free share of a pool that is full: drivers round to hundredths of a GiB."""

Segments = Mapping[str, str]


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


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What is asked of a pool."""

    size: int
    extra_specs: Mapping[str, str]
    pool_name: str | None
    topology: Sequence[Segments]
    multiattach: bool

    def filter_properties(self) -> dict[str, Any]:
        """The request in the form of Cinder's filters and weighers."""
        volume_type = {"extra_specs": dict(self.extra_specs)}
        properties = {"size": self.size}
        return {
            "size": self.size,
            "volume_type": volume_type,
            "resource_type": volume_type,
            "request_spec": {
                "volume_id": "",
                "volume_properties": properties,
                "resource_properties": properties,
                "volume_type": volume_type,
            },
        }


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
    first: what was deleted since then makes room. Raises NoPool. Thread-safe.
    """
    wish = _Wish(
        size=size,
        extra_specs=extra_specs or {},
        pool_name=pool_name,
        topology=topology or (),
        multiattach=multiattach,
    )
    candidates = list(backends)
    try:
        return _choose(candidates, wish)
    except NoPool:
        end = time.monotonic() + driver_stats.WAIT
        for backend in candidates:
            backend.driver_stats.read_again(wait_seconds=end - time.monotonic())
        return _choose(candidates, wish)


def capacity(
    backends: Iterable["Backend"],
    *,
    extra_specs: Mapping[str, str] | None = None,
    pool_name: str | None = None,
    topology: Sequence[Segments] | None = None,
    multiattach: bool = False,
) -> Capacity:
    """Room in all pools that would take such a volume if it were small enough. From the last stats; never waits."""
    wish = _Wish(
        size=0,
        extra_specs=extra_specs or {},
        pool_name=pool_name,
        topology=topology or (),
        multiattach=multiattach,
    )
    with _lock:
        fitting, _ = _fitting_pools(list(backends), wish)
    rooms = [_room(pool.state, wish) for pool in fitting]
    known = [room for room in rooms if room is not None]
    if len(known) < len(rooms):
        return Capacity(available_bytes=BOUNDLESS, maximum_bytes=None)
    available = sum(max(int(room * GIB), 0) for room in known)
    return Capacity(
        available_bytes=available, maximum_bytes=max((max(int(room), 0) * GIB for room in known), default=0)
    )


def has_room(backend: "Backend", *, pool_name: str, size: int, extra_specs: Mapping[str, str]) -> bool:
    """Whether a pool has room for ``size`` GiB more, by stats that are read now; True where a driver does not know.

    An empty ``pool_name`` is any pool. Thread-safe.
    """
    wish = _Wish(
        size=size,
        extra_specs=extra_specs,
        pool_name=pool_name or None,
        topology=(),
        multiattach=False,
    )
    backend.driver_stats.read_again()
    pools = [pool for pool in _pools(backend) if pool_name in ("", pool.state.pool_name)]
    return not pools or any(_has_room(pool.state, wish) for pool in pools)


def _has_room(state: Any, wish: _Wish) -> bool:
    room = _room(state, wish)
    # A thin pool may have much left to promise when what is written has filled it.
    return room is None or (room >= wish.size and state.free_capacity_gb > _FULL * state.total_capacity_gb)


@dataclass
class _Pool:
    backend: "Backend"
    state: Any
    """cinder.scheduler.host_manager.PoolState, with reservations consumed."""


def _choose(backends: Sequence["Backend"], wish: _Wish) -> tuple["Backend", str]:
    with _lock:
        fitting, reasons = _fitting_pools(backends, wish)
        for segments in wish.topology or ({},):
            reachable = [pool for pool in fitting if _is_reachable(pool.backend, [segments] if segments else ())]
            if reachable:
                best = _heaviest(reachable, wish)
                name = str(best.state.pool_name)
                best.backend.reservations.add(name, wish.size)
                return best.backend, name
    raise NoPool(reason=f"no pool fits: {'; '.join(reasons) or 'no backend is ready'}")


def _fitting_pools(backends: Sequence["Backend"], wish: _Wish) -> tuple[list[_Pool], list[str]]:
    """The pools that pass, and why each of the others does not."""
    fitting, reasons = [], []
    for backend in backends:
        if backend.is_suspended:
            reasons.append(f"backend {backend.name} is suspended: it takes no new volumes")
            continue
        for pool in _pools(backend):
            reason = _reason_against(pool, wish)
            if reason is None:
                fitting.append(pool)
            else:
                reasons.append(f"{backend.name}#{pool.state.pool_name}: {reason}")
    return fitting, reasons


def _reason_against(pool: _Pool, wish: _Wish) -> str | None:
    if wish.pool_name not in (None, pool.state.pool_name):
        return f"not the pool {wish.pool_name} that was asked for"
    if not _is_reachable(pool.backend, wish.topology):
        return "not reachable from the wanted topology"
    if wish.multiattach and not pool.state.multiattach:
        return "does not connect a volume to several nodes"
    properties = wish.filter_properties()
    for filter_class in _filter_classes():
        if not filter_class()._filter_one(pool.state, properties):
            return f"{filter_class.__name__}{_detail(filter_class.__name__, pool, wish)}"
    return None


def _detail(filter_name: str, pool: _Pool, wish: _Wish) -> str:
    if filter_name == "CapacityFilter":
        room = _room(pool.state, wish)
        return f" ({wish.size} GiB wanted, {'unknown' if room is None else round(room, 2)} GiB free)"
    if filter_name == "CapabilitiesFilter":
        return f" (wanted: {', '.join(f'{key}={value}' for key, value in sorted(wish.extra_specs.items()))})"
    return ""


def _heaviest(pools: Sequence[_Pool], wish: _Wish) -> _Pool:
    handler, weigher_classes = _weighers()
    weighed = handler.get_weighed_objects(weigher_classes, [pool.state for pool in pools], wish.filter_properties())
    best = weighed[0].obj
    return next(pool for pool in pools if pool.state is best)


def _room(state: Any, wish: _Wish) -> float | None:
    """GiB that can be provisioned, as Cinder's capacity filter counts them; None when the driver does not know."""
    unlimited = ("infinite", "unknown")
    if state.free_capacity_gb in unlimited or state.total_capacity_gb in unlimited:
        return None
    is_thin = wish.extra_specs.get("provisioning:type") != "thick"
    return float(
        sched_utils.calculate_virtual_free_capacity(
            state.total_capacity_gb,
            state.free_capacity_gb,
            state.provisioned_capacity_gb,
            state.thin_provisioning_support,
            state.max_over_subscription_ratio,
            state.reserved_percentage,
            is_thin,
        )
    )


def _pools(backend: "Backend") -> list[_Pool]:
    stats, asked_at = backend.driver_stats.recent_with_time()
    capabilities = copy.deepcopy(stats)
    capabilities["timestamp"] = timeutils.utcnow()
    for name in ("filter_function", "goodness_function"):
        if name not in capabilities:
            capabilities[name] = getattr(backend.driver, f"get_{name}")()
    for pool in capabilities["pools"]:
        pool.update(backend.extra_capabilities)
        if capabilities.get("storage_protocol") in constants.CACHEABLE_PROTOCOLS:
            pool.setdefault("cacheable", True)
        if "allocated_capacity_gb" not in pool and "provisioned_capacity_gb" not in pool:
            pool["allocated_capacity_gb"] = backend.allocated_gib(pool["pool_name"])
    state = host_manager.BackendState(backend.host, None)
    zone = backend.configuration.safe_get("backend_availability_zone") or cfg.CONF.storage_availability_zone
    state.update_from_volume_capability(capabilities, {"availability_zone": zone})
    for reservation in backend.reservations.waiting(asked_at):
        pool_state = state.pools.get(reservation.pool)
        if pool_state is not None:
            pool_state.consume_from_volume({"size": reservation.size}, update_time=False)
    return [_Pool(backend, state.pools[name]) for name in sorted(state.pools)]


def _is_reachable(backend: "Backend", topology: Sequence[Segments]) -> bool:
    """Whether a backend's volumes can be reached from any of some places; no places, or none of its own: everywhere."""
    if not topology or not backend.topology:
        return True
    return any(_within(own, wanted) or _within(wanted, own) for own in backend.topology for wanted in topology)


def _within(inner: Segments, outer: Segments) -> bool:
    return all(outer.get(name) == value for name, value in inner.items())


@cache
def _filter_classes() -> list[Callable[[], Any]]:
    found = filters.BackendFilterHandler("cinder.scheduler.filters").get_all_classes()
    return _named(found, cfg.CONF.scheduler_default_filters, "scheduler_default_filters")


@cache
def _weighers() -> tuple[Any, list[Callable[[], Any]]]:
    handler = importutils.import_object(cfg.CONF.scheduler_weight_handler, "cinder.scheduler.weights")
    found = handler.get_all_classes()
    return handler, _named(found, cfg.CONF.scheduler_default_weighers, "scheduler_default_weighers")


def _named(classes: Iterable[Any], names: Sequence[str], option: str) -> list[Any]:
    by_name = {found.__name__: found for found in classes}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f"option {option}: there is no {', '.join(unknown)}; known are {', '.join(sorted(by_name))}")
    return [by_name[name] for name in names]
