"""The pools of backends as Cinder's scheduler sees them: their last stats, judged by its filters and weighers."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cinder.common import constants
from cinder.scheduler import filters, host_manager, sched_utils
from oslo_config import cfg
from oslo_utils import importutils, timeutils

from csi_plugin.storage.cinder.driver_stats import FULL
from csi_plugin.topology import Segments, is_accessible

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend


@dataclass(frozen=True, kw_only=True)
class VolumeSpec:
    """What is asked of a pool."""

    size: int
    """GiB."""
    extra_specs: Mapping[str, str]
    pool_name: str | None
    topology: Sequence[Segments]
    """Where the volume must be reachable, the most wanted first; anywhere when empty."""
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


@dataclass(frozen=True)
class Pool:
    """One pool of a backend."""

    backend: "Backend"
    state: Any
    """cinder.scheduler.host_manager.PoolState, with reservations consumed."""

    @property
    def name(self) -> str:
        return str(self.state.pool_name)

    def reason_against(self, spec: VolumeSpec) -> str | None:
        """Why the pool cannot take such a volume, as text for humans; None when it can."""
        if spec.pool_name not in (None, self.name):
            return f"not the pool {spec.pool_name} that was asked for"
        if not is_accessible(self.backend.topology, spec.topology):
            return "not reachable from the wanted topology"
        if spec.multiattach and not self.state.multiattach:
            return "does not connect a volume to several nodes"
        properties = spec.filter_properties()
        for filter_class in _filter_classes():
            if not filter_class()._filter_one(self.state, properties):
                return f"{filter_class.__name__}{self._detail(filter_class.__name__, spec)}"
        return None

    def _detail(self, filter_name: str, spec: VolumeSpec) -> str:
        if filter_name == "CapacityFilter":
            free = self.free_gib(spec)
            return f" ({spec.size} GiB wanted, {'unknown' if free is None else round(free, 2)} GiB free)"
        if filter_name == "CapabilitiesFilter":
            return f" (wanted: {', '.join(f'{key}={value}' for key, value in sorted(spec.extra_specs.items()))})"
        return ""

    def has_room(self, spec: VolumeSpec) -> bool:
        """Whether such a volume fits; True when the driver does not know its room."""
        free = self.free_gib(spec)
        # A thin pool may have much left to promise when what is written has filled it.
        return free is None or (free >= spec.size and self.state.free_capacity_gb > FULL * self.state.total_capacity_gb)

    def free_gib(self, spec: VolumeSpec) -> float | None:
        """GiB that can be provisioned, as Cinder's capacity filter counts them; None when the driver does not know."""
        unlimited = ("infinite", "unknown")
        if self.state.free_capacity_gb in unlimited or self.state.total_capacity_gb in unlimited:
            return None
        is_thin = spec.extra_specs.get("provisioning:type") != "thick"
        return float(
            sched_utils.calculate_virtual_free_capacity(
                self.state.total_capacity_gb,
                self.state.free_capacity_gb,
                self.state.provisioned_capacity_gb,
                self.state.thin_provisioning_support,
                self.state.max_over_subscription_ratio,
                self.state.reserved_percentage,
                is_thin,
            )
        )


def pools_of(backend: "Backend") -> list[Pool]:
    """A backend's pools, by name, from its last stats; never waits."""
    reading = backend.driver_stats.recent_reading()
    capabilities = copy.deepcopy(reading.stats)
    capabilities["timestamp"] = timeutils.utcnow()
    for name in ("filter_function", "goodness_function"):
        if name not in capabilities:
            capabilities[name] = getattr(backend.driver, f"get_{name}")()
    for pool in capabilities["pools"]:
        pool.update(backend.extra_capabilities)
        if capabilities.get("storage_protocol") in constants.CACHEABLE_PROTOCOLS:
            pool.setdefault("cacheable", True)
        if "allocated_capacity_gb" not in pool and "provisioned_capacity_gb" not in pool:
            pool["allocated_capacity_gb"] = reading.recorded_gib.get(pool["pool_name"], 0)
            if pool["pool_name"] == backend.pool_names[0]:
                pool["allocated_capacity_gb"] += reading.recorded_gib.get("", 0)
    state = host_manager.BackendState(backend.host, None)
    zone = backend.configuration.safe_get("backend_availability_zone") or cfg.CONF.storage_availability_zone
    state.update_from_volume_capability(capabilities, {"availability_zone": zone})
    for reservation in backend.reservations.pending(reading.asked_at):
        pool_state = state.pools.get(reservation.pool)
        if pool_state is not None:
            pool_state.consume_from_volume({"size": reservation.size}, update_time=False)
    return [Pool(backend, state.pools[name]) for name in sorted(state.pools)]


def best_of(pools: Sequence[Pool], spec: VolumeSpec) -> Pool:
    """The pool that Cinder's weighers prefer."""
    handler, weigher_classes = _weighers()
    weighed = handler.get_weighed_objects(weigher_classes, [pool.state for pool in pools], spec.filter_properties())
    best = weighed[0].obj
    return next(pool for pool in pools if pool.state is best)


@cache
def _filter_classes() -> list[Callable[[], Any]]:
    found = filters.BackendFilterHandler("cinder.scheduler.filters").get_all_classes()
    return _select(found, cfg.CONF.scheduler_default_filters, "scheduler_default_filters")


@cache
def _weighers() -> tuple[Any, list[Callable[[], Any]]]:
    handler = importutils.import_object(cfg.CONF.scheduler_weight_handler, "cinder.scheduler.weights")
    found = handler.get_all_classes()
    return handler, _select(found, cfg.CONF.scheduler_default_weighers, "scheduler_default_weighers")


def _select(classes: Iterable[Any], names: Sequence[str], option: str) -> list[Any]:
    by_name = {found.__name__: found for found in classes}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f"option {option}: there is no {', '.join(unknown)}; known are {', '.join(sorted(by_name))}")
    return [by_name[name] for name in names]
