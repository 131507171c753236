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

from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.cinder import pool_facts
from csi_plugin.storage.cinder.driver_stats import is_full
from csi_plugin.storage.library_state import STATE
from csi_plugin.topology import Segments, is_accessible

_NAMED = 3
PROVISIONING_TYPE = "provisioning:type"
"""Extra spec of Cinder: thin or thick."""

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
    stats: Mapping[str, Any]
    """What the driver says of it."""

    @property
    def name(self) -> str:
        return str(self.state.pool_name)

    def reason_against(self, spec: VolumeSpec) -> str | None:
        """Why the pool cannot take such a volume, as text for humans; None when it can."""
        if spec.pool_name not in (None, self.name):
            return f"not the pool {spec.pool_name} that was asked for"
        if not is_accessible(self.backend.topology, spec.topology):
            return "not reachable from the wanted topology"
        if reason := self.reason_against_any():
            return reason
        if spec.multiattach and not self.state.multiattach:
            return "does not connect a volume to several nodes"
        properties = spec.filter_properties()
        for filter_class in _filter_classes():
            if not filter_class()._filter_one(self.state, properties):
                return f"{filter_class.__name__}{self._detail(filter_class.__name__, spec)}"
        largest = self.stats.get(pool_facts.LARGEST_GB)
        if largest is not None and spec.size > largest:
            return f"no share has room for {spec.size} GiB ({largest:.2f} GiB is the most)"
        return None

    def reason_against_any(self) -> str | None:
        """Why the pool takes nothing at all now, not even a copy that shares its data; None when it does."""
        if self.stats.get("backend_state", "up") != "up":
            return "its storage reports that it is down"
        # A thin pool may have much left to promise when what is written has filled it.
        if is_full(self.stats):
            return f"full ({self.stats['free_capacity_gb']} of {self.stats['total_capacity_gb']} GiB are free)"
        refusal = self.stats.get(pool_facts.REFUSAL)
        return str(refusal) if refusal else None

    def _detail(self, filter_name: str, spec: VolumeSpec) -> str:
        if filter_name == "CapacityFilter":
            free = self.free_gib(spec)
            room = f" ({spec.size} GiB wanted, {'unknown' if free is None else round(free, 2)} GiB free)"
            return room if free is None or free >= 0 else f"{room}: {self._overcommitment()}"
        if filter_name == "CapabilitiesFilter":
            return f" (wanted: {', '.join(f'{key}={value}' for key, value in sorted(spec.extra_specs.items()))})"
        return ""

    def _overcommitment(self) -> str:
        """What to do about a pool of which more is promised than it may."""
        recorded = STATE.store.find(VolumeRecord, backend=self.backend.id)
        here = [record for record in recorded if record.pool in (self.name, "")]
        largest = sorted(here, key=lambda record: record.size, reverse=True)[:_NAMED]
        named = ", ".join(f"{record.id} of {record.size} GiB" for record in largest) or "none of ours"
        return (
            "more is promised than the pool has and max_over_subscription_ratio allows, so nothing new is made there. "
            f"Its largest volumes: {named}"
        )

    def has_room(self, spec: VolumeSpec) -> bool:
        """Whether such a volume fits; True when the driver does not know its room."""
        free = self.free_gib(spec)
        return self.reason_against_any() is None and (free is None or free >= spec.size)

    def largest_gib(self, spec: VolumeSpec) -> float | None:
        """GiB of the largest volume that fits; None when the driver does not know."""
        free, largest = self.free_gib(spec), self.stats.get(pool_facts.LARGEST_GB)
        return free if free is None or largest is None else min(free, float(largest))

    def free_gib(self, spec: VolumeSpec) -> float | None:
        """GiB that can be provisioned, as Cinder's capacity filter counts them; None when the driver does not know."""
        if is_full(self.stats):
            return 0.0
        unlimited = ("infinite", "unknown")
        if self.state.free_capacity_gb in unlimited or self.state.total_capacity_gb in unlimited:
            return None
        is_thin = spec.extra_specs.get(PROVISIONING_TYPE) != "thick"
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
    found = {pool["pool_name"]: pool for pool in capabilities["pools"]}
    return [Pool(backend, state.pools[name], found.get(name, {})) for name in sorted(state.pools)]


def rooms_of(backend: "Backend") -> dict[str, float]:
    """GiB that may still be promised of each pool, by name; negative where more is promised than may be. Without those
    whose driver does not know. Never waits."""
    spec = VolumeSpec(size=0, extra_specs={}, pool_name=None, topology=(), multiattach=False)
    rooms = {pool.name: pool.free_gib(spec) for pool in pools_of(backend)}
    return {name: room for name, room in rooms.items() if room is not None}


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
