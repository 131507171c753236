"""Prometheus metrics: what is counted as it happens, and what is looked up when somebody asks."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.records import Phase, VolumeRecord
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.server.controller_runtime import ControllerRuntime
from csi_plugin.server.identity import own_version
from csi_plugin.server.node_runtime import NodeRuntime
from csi_plugin.server.operations import by_thread
from csi_plugin.storage.cinder import pool_facts
from csi_plugin.units import GIB

COUNT_SECONDS = 60.0
"""Volumes are counted again after this long, however often metrics are read."""

# Reads take milliseconds; a driver may take minutes.
_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one process. Thread-safe."""

    def __init__(
        self,
        inflight: InFlight,
        *,
        node_id: str,
        controller: ControllerRuntime | None,
        node: NodeRuntime | None,
    ) -> None:
        self._registry = CollectorRegistry()
        self._durations = Histogram(
            "cinderbox_rpc_duration_seconds",
            "How long calls took, by method and gRPC status.",
            ["method", "code"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Process(inflight))
        if controller is not None:
            self._registry.register(_Controller(controller))
        if node is not None:
            self._registry.register(_Node(node, node_id))

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count a call that has ended."""
        self._durations.labels(method, code).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _gauge(name: str, description: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cinderbox_{name}", description, labels=labels)


class _Process(Collector):
    def __init__(self, inflight: InFlight) -> None:
        self._inflight = inflight

    def collect(self) -> Iterator[GaugeMetricFamily]:
        running = by_thread(self._inflight)
        count = _gauge("operations", "Operations that run now.")
        count.add_metric([], len(running))
        oldest = _gauge("oldest_operation_seconds", "Age of the operation that has been running for longest.")
        oldest.add_metric([], running[0][0].age_seconds if running else 0)
        build = _gauge("build_info", "Always 1; says which version runs.", ("version",))
        build.add_metric([own_version()], 1)
        yield from (count, oldest, build)


class _Node(Collector):
    def __init__(self, node: NodeRuntime, node_id: str) -> None:
        self._node = node
        self._node_id = node_id

    def collect(self) -> Iterator[GaugeMetricFamily]:
        registered = _gauge("node_registered", "Whether the controller knows this node (1) or not (0).", ("node",))
        registered.add_metric([self._node_id], self._node.is_registered())
        yield registered


class _Controller(Collector):
    def __init__(self, controller: ControllerRuntime) -> None:
        self._controller = controller
        self._counted: tuple[float, dict[tuple[str, str], int], int] = (-COUNT_SECONDS, {}, 0)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        leader = _gauge("leader", "Whether this controller is the active one (1) or stands by (0).")
        leader.add_metric([], self._controller.is_leading())
        yield leader
        yield from self._backends()
        yield from self._volumes()

    def _backends(self) -> Iterator[GaugeMetricFamily]:
        ready = _gauge(
            "backend_ready", "Whether a backend serves, and its storage answers (1) or not (0).", ("backend",)
        )
        current = _gauge(
            "backend_up_to_date",
            "Whether a backend serves with what it was configured with last (1) or not (0).",
            ("backend",),
        )
        capacity = _gauge("pool_capacity_bytes", "Size of a pool, where its driver knows it.", ("backend", "pool"))
        free = _gauge("pool_free_bytes", "Free room of a pool, where its driver knows it.", ("backend", "pool"))
        metadata = _gauge(
            "pool_metadata_used_ratio", "How full the metadata of a thin pool is, 0 to 1.", ("backend", "pool")
        )
        snapshot = _gauge(
            "pool_snapshot_used_ratio",
            "How full the fullest snapshot of a pool of thick volumes is, 0 to 1.",
            ("backend", "pool"),
        )
        lost = _gauge("pool_lost_snapshots", "Snapshots of a pool that have lost their data.", ("backend", "pool"))
        for status, stats in self._controller.backends():
            ready.add_metric([status.name], status.is_ready)
            current.add_metric([status.name], status.is_current)
            for pool in stats.get("pools", ()):
                for family, name in ((capacity, "total_capacity_gb"), (free, "free_capacity_gb")):
                    # Drivers say "infinite" and "unknown", too.
                    if isinstance(pool.get(name), int | float):
                        family.add_metric([status.name, pool["pool_name"]], pool[name] * GIB)
                for family, name in (
                    (metadata, pool_facts.METADATA_PERCENT),
                    (snapshot, pool_facts.SNAPSHOT_PERCENT),
                ):
                    if name in pool:
                        family.add_metric([status.name, pool["pool_name"]], pool[name] / 100)
                if pool_facts.INVALID_SNAPSHOTS in pool:
                    lost.add_metric([status.name, pool["pool_name"]], len(pool[pool_facts.INVALID_SNAPSHOTS]))
        room = _gauge(
            "pool_room_bytes",
            "What of a pool may still be promised to volumes, where its driver knows it; negative: too much is.",
            ("backend", "pool"),
        )
        for (backend, pool_name), gib in self._controller.rooms().items():
            room.add_metric([backend, pool_name], gib * GIB)
        yield from (ready, current, capacity, free, room, metadata, snapshot, lost)

    def _volumes(self) -> Iterator[GaugeMetricFamily]:
        counted_at, volumes, orphans = self._counted
        if time.monotonic() - counted_at > COUNT_SECONDS and self._controller.is_leading():
            try:
                volumes, orphans = self._count()
            except PersistenceError:
                return  # its own call to the store says what is wrong
            self._counted = (time.monotonic(), volumes, orphans)
        by_backend = _gauge("volumes", "Volumes by backend and Cinder status.", ("backend", "status"))
        for (backend, status), count in volumes.items():
            by_backend.add_metric([backend, status], count)
        left = _gauge("leftovers", "Objects that interrupted operations may have left on the storage.")
        left.add_metric([], orphans)
        yield from (by_backend, left)

    def _count(self) -> tuple[dict[tuple[str, str], int], int]:
        volumes: dict[tuple[str, str], int] = {}
        orphans = 0
        store = self._controller.store
        for record in store.find(VolumeRecord) if store is not None else []:
            if record.intent is not None and record.intent.phase is Phase.ORPHAN:
                orphans += 1
                continue
            key = (record.backend, record.status)
            volumes[key] = volumes.get(key, 0) + 1
        return volumes, orphans
