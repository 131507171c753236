"""Background work on resources: their statuses with Events, and deletions that administrators ask for."""

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.api import Missing, ResourceAPI
from csi_plugin.persistence.crd.cluster_nodes import Obstacle
from csi_plugin.persistence.crd.deletion import deletion_blocker, persistent_volume_of
from csi_plugin.persistence.crd.events import Events, reference
from csi_plugin.persistence.crd.kinds import FINALIZER, RESOURCES, resource_name
from csi_plugin.persistence.crd.resource import RecordResource
from csi_plugin.persistence.crd.sealed_connections import SealConnection, resealed_connections
from csi_plugin.persistence.crd.status import (
    conditions,
    deletion_held,
    due_events,
    merged_conditions,
    not_ready,
    status,
    with_health,
    with_persistent_volume,
)
from csi_plugin.persistence.crd.watch_cache import WatchCache
from csi_plugin.persistence.initiators import sharing
from csi_plugin.persistence.records import (
    FORMATTED_VOLUMES,
    JSON,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    NodeRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.secrets_in_text import redact_text

LOG = logging.getLogger(__name__)

_QUIET_SECONDS = 0.5
"""A status is written when its record has not changed for this long: writes in a row make one status."""
_RETRY_SECONDS = 10.0

Item = tuple[type[Record], str]

_OWNERS: dict[type[Record], tuple[tuple[str, type[Record]], ...]] = {
    ConnectionRecord: (("volume_id", VolumeRecord), ("node_id", NodeRecord)),
    SnapshotRecord: (("volume_id", VolumeRecord), ("group_snapshot_id", GroupSnapshotRecord)),
    VolumeRecord: (("snapshot_id", SnapshotRecord), ("group_id", GroupRecord)),
}
"""Fields by which a record is named or counted in the status of another."""


class StatusWriter:
    """One thread, from start() to stop(). Changes announced before start() are done then."""

    def __init__(self, api: ResourceAPI, events: Events, cache: Callable[[type[Record]], WatchCache]) -> None:
        self._api = api
        self._events = events
        self._cache = cache
        self.seal_connection: SealConnection | None = None
        """Set where connections can be resealed, before start(); elsewhere the present ones stay."""
        self.is_renewing: Callable[[str, str], bool] = lambda node_id, volume_id: False
        """Set where it can be done, before start(): see RecordStore.use_connection_renewer."""
        self.take_over_filesystems: Callable[[str], None] | None = None
        """Set where it can be done, before start(); called for a node that tells of volumes with a filesystem."""
        self.volume_health: Callable[[str], list[tuple[str, str]]] | None = None
        """Set where it is known, before start(): reason and message of what is wrong with a volume."""
        self.node_obstacle: Callable[[NodeRecord], Obstacle | None] | None = None
        """Set where Kubernetes is asked for its Nodes, before start()."""
        self.persistent_volume: Callable[[VolumeRecord], str | None] | None = None
        """Set where Kubernetes is asked for its PersistentVolumes, before start(): ClusterVolumes.name_of()."""
        self._due: dict[Item, float] = {}
        self._queue: list[tuple[float, int, Item]] = []
        """A heap of all that was ever due; what _due has another time for, or none, is skipped."""
        self._count = itertools.count()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._owners: dict[Item, set[Item]] = {}
        """What was last known to be named or counted by which other records' statuses."""

    def start(self) -> None:
        """Begin, if it has not begun."""
        if self._thread is None:
            with self._wake:
                if self._thread is None and not self._is_stopping:
                    self._thread = threading.Thread(target=self._run, name="status-writer", daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def changed(self, kind: type[Record], record_id: str) -> None:
        """A record came, changed or went: its status is due, and those that speak of it."""
        with self._wake:
            self._plan((kind, record_id), _QUIET_SECONDS)
            self._wake.notify()

    def record_event(self, kind: type[Record], record_id: str, reason: str, message: str) -> None:
        """Send an Event about an object, if it has a resource. Waits for the API server, and raises nothing."""
        resource = self._cache(kind).get(record_id)
        if resource is not None:
            regarding = reference(RESOURCES[kind].kind, resource.metadata)
            self._events.record(regarding, "Warning", reason, redact_text(message))

    def _plan(self, item: Item, pause: float) -> None:
        self._due[item] = due = time.monotonic() + pause
        heapq.heappush(self._queue, (due, next(self._count), item))

    def _run(self) -> None:
        self._watch_all()
        while (item := self._next()) is not None:
            try:
                self._do(*item)
            except PersistenceError as error:
                if self._is_stopping:
                    return
                LOG.debug("the status of %s %s is not written yet: %s", item[0].KIND, item[1], error)
                self._again(item)
            except Exception:
                # A defect in a status must not end all others.
                LOG.exception("the status of %s %s cannot be written", item[0].KIND, item[1])

    def _watch_all(self) -> None:
        """Statuses need all kinds, whichever this process reads."""
        for kind in RESOURCES:
            while not self._is_stopping:
                try:
                    self._cache(kind)
                    break
                except PersistenceError as error:
                    LOG.warning("statuses are not written: %s", error)
                    with self._wake:
                        self._wake.wait_for(lambda: self._is_stopping, timeout=_RETRY_SECONDS)

    def _again(self, item: Item) -> None:
        with self._wake:
            if item not in self._due:
                self._plan(item, _RETRY_SECONDS)

    def _next(self) -> Item | None:
        """Wait for the next item to be due; None when stopping."""
        with self._wake:
            while not self._is_stopping:
                if not self._queue:
                    self._wake.wait()
                    continue
                due, _, item = self._queue[0]
                pause = due - time.monotonic()
                if self._due.get(item) != due:
                    heapq.heappop(self._queue)
                elif pause > 0:
                    self._wake.wait(pause)
                else:
                    heapq.heappop(self._queue)
                    del self._due[item]
                    return item
        return None

    def _do(self, kind: type[Record], record_id: str) -> None:
        resource = self._cache(kind).get(record_id)
        if resource is not None and resource.is_deleting and resource.has_finalizer:
            self._delete(kind, resource)
        elif resource is not None and kind is not KeyValueRecord:
            self._write(kind, resource, self._status(resource))
            self._take_over(resource.record)
        self._touch_related(kind, record_id, resource.record if resource else None)

    def _take_over(self, record: Record) -> None:
        if self.take_over_filesystems and isinstance(record, NodeRecord) and FORMATTED_VOLUMES in record.connector:
            self.take_over_filesystems(record.id)

    def _delete(self, kind: type[Record], resource: RecordResource) -> None:
        reason = deletion_blocker(resource, self._find, self._api)
        names, name = RESOURCES[kind], resource.metadata["name"]
        if reason:
            wanted = self._status(resource)
            present = wanted.get("conditions") or conditions(resource)
            self._write(kind, resource, wanted | {"conditions": merged_conditions(present, deletion_held(reason))})
            self._again((kind, resource.record.id))
            return
        LOG.warning("%s %s was deleted by an administrator; what it describes stays on the storage", names.kind, name)
        others = [finalizer for finalizer in resource.finalizers if finalizer != FINALIZER]
        with contextlib.suppress(Missing):
            self._api.merge(names.plural, name, {"metadata": {"finalizers": others or None}})

    def _status(self, resource: RecordResource) -> JSON:
        wanted = status(resource, self._find, self._nodes_named)
        if isinstance(resource.record, NodeRecord):
            wanted |= self._sealed_connections(resource)
            obstacle = self.node_obstacle(resource.record) if self.node_obstacle else None
            if obstacle is not None:
                wanted["conditions"] = conditions(resource, not_ready(obstacle.reason, obstacle.message))
        if isinstance(resource.record, VolumeRecord) and self.volume_health is not None:
            wanted["conditions"] = with_health(wanted["conditions"], self.volume_health(resource.record.id))
        if isinstance(resource.record, VolumeRecord) and self.persistent_volume is not None:
            wanted = with_persistent_volume(resource, wanted, self.persistent_volume(resource.record))
        if resource.allows_deletion and "persistentVolume" in wanted:
            # Admission goes by this: what was true when the volume was created has to be true now.
            wanted["persistentVolume"] = persistent_volume_of(resource.record.id, self._api)
        return wanted

    def _sealed_connections(self, resource: RecordResource) -> JSON:
        if self.seal_connection is None:
            return {name: resource.status[name] for name in ("publicKey", "connections") if name in resource.status}
        fields = resealed_connections(resource, self._find, self.seal_connection, self.is_renewing)
        return {name: value for name, value in fields.items() if value}

    def _write(self, kind: type[Record], resource: RecordResource, wanted: JSON) -> None:
        patch = {name: value for name, value in wanted.items() if resource.status.get(name) != value}
        patch |= {name: None for name in resource.status if name not in wanted}
        if not patch:
            return
        names, name = RESOURCES[kind], resource_name(resource.record.id)
        for event in due_events(resource, wanted):
            self._events.record(reference(names.kind, resource.metadata), *event)
        with contextlib.suppress(Missing):
            self._cache(kind).put(self._api.merge_status(names.plural, name, patch))

    def _touch_related(self, kind: type[Record], record_id: str, record: Any) -> None:
        """Other records' statuses name or count this one: when it comes or goes, they are due too."""
        now = {(other, value) for name, other in _OWNERS.get(kind, ()) if record and (value := getattr(record, name))}
        if isinstance(record, NodeRecord):
            now = {(NodeRecord, other.id) for other, _ in sharing(record.id, record.connector, self._nodes_named)}
        before = self._owners.pop((kind, record_id), set())
        if now:
            self._owners[kind, record_id] = now
        # A connection counts from its first moment on, but its node may have to be given it once it is attached.
        for owner in now | before if kind is ConnectionRecord else now ^ before:
            self.changed(*owner)

    def _find(self, kind: type[Record], *, limit: int | None = None, **keys: str) -> list[Any]:
        return self._cache(kind).find(keys, after=None, limit=limit)

    def _nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        return self._cache(NodeRecord).nodes_named(names)
