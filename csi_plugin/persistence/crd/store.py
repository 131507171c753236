"""Records in custom resources: reads from watch caches, writes straight to the API server."""

import threading
import uuid
import weakref
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from csi_plugin.persistence.base import PersistenceError, RecordExists, RecordNotFound, RevisionConflict
from csi_plugin.persistence.builtin_plugin import BuiltinPlugin
from csi_plugin.persistence.crd.api import Conflict, Forbidden, Missing, ResourceAPI
from csi_plugin.persistence.crd.backend_resources import BackendResources
from csi_plugin.persistence.crd.cluster_networks import ClusterNetworks
from csi_plugin.persistence.crd.cluster_nodes import ClusterNodes
from csi_plugin.persistence.crd.cluster_volumes import ClusterVolumes
from csi_plugin.persistence.crd.cluster_watch import ClusterWatch
from csi_plugin.persistence.crd.definitions import check_definitions, check_stored
from csi_plugin.persistence.crd.events import Events
from csi_plugin.persistence.crd.kinds import FINALIZER, GROUP, RESOURCES, VERSION, resource_name
from csi_plugin.persistence.crd.lease import KubernetesLease
from csi_plugin.persistence.crd.resource import RecordResource, new_resource, next_resource
from csi_plugin.persistence.crd.status_writer import StatusWriter
from csi_plugin.persistence.crd.volume_use import with_use
from csi_plugin.persistence.crd.watch_cache import WatchCache
from csi_plugin.persistence.encoding import copy, utc_now
from csi_plugin.persistence.leases import Fence, LeaseTerm, fenced_write
from csi_plugin.persistence.records import ConnectionRecord, NodeRecord, Record, VolumeRecord

R = TypeVar("R", bound=Record)

_SILENCE_LIMIT = 60.0
"""Seconds for which reads go on from the caches while the API server is unreachable."""

_GUARDED = (
    "A record that is there already is written by the controller alone where the chart's policies guard its namespace: "
    "copy records before the chart is installed, or with a kubeconfig of the controller's service account"
)


class CRDPersistence(BuiltinPlugin):
    """Custom resources of the group cinderbox.io in one namespace. Their definitions must be installed.

    ``namespace`` and ``kubeconfig`` (a path) are needed outside of pods only. A read answers with what this process
    has written, and with what others wrote as soon as the watch has brought it: writers of the same record are told
    apart by their revisions, whatever they have read.
    """

    ATOMIC_ACROSS_PROCESSES = True
    DERIVES_USE = True

    def __init__(self, namespace: str | None = None, kubeconfig: str | None = None) -> None:
        super().__init__()
        self._api = ResourceAPI(GROUP, VERSION, namespace=namespace, kubeconfig=kubeconfig)
        check_definitions(namespace=namespace, kubeconfig=kubeconfig)
        self._lease = KubernetesLease(namespace=namespace, kubeconfig=kubeconfig)
        self._opening = {kind: threading.Lock() for kind in RESOURCES}
        self._caches: dict[type[Record], WatchCache] = {}
        self._events = Events(namespace=namespace, kubeconfig=kubeconfig)
        self._status_writer = StatusWriter(self._api, self._events, self._cache)
        self._cluster_nodes = ClusterNodes(
            self._api,
            self._find,
            changed=lambda node_id: self._status_writer.changed(NodeRecord, node_id),
            remove=self.delete,
        )
        self._cluster_volumes = ClusterVolumes(
            self._api, self._find, changed=lambda volume_id: self._status_writer.changed(VolumeRecord, volume_id)
        )
        self._cluster_networks = ClusterNetworks(self._api, of_pods=self._cluster_nodes.pod_networks)
        self._cluster_watch = ClusterWatch(
            [self._cluster_nodes.look, self._cluster_networks.look, self._cluster_volumes.look]
        )
        self._status_writer.node_obstacle = self._cluster_nodes.obstacle
        self._status_writer.persistent_volume = self._cluster_volumes.name_of
        self.backends = BackendResources(self._api, self._events, self._find)
        """The CinderBackends beside the records."""
        self._await_current: weakref.WeakSet[threading.Event] = weakref.WeakSet()
        self._await_lock = threading.Lock()
        self._closed = False

    @property
    def namespace(self) -> str:
        return self._api.namespace

    def cluster_networks(self) -> list[str]:
        return self._cluster_networks.all()

    @fenced_write
    def create(self, record: R) -> R:
        stored = copy(record)
        stored.revision = 1
        stored.created_at = stored.created_at or utc_now()
        kind, write = type(stored), _new_write()
        cache = self._cache(kind)
        try:
            sent = new_resource(stored, namespace=self.namespace, write=write, epoch=self._epoch)
            resource = self._api.create(RESOURCES[kind].plural, sent)
            stored = _as_seen(stored, cache.put(resource))
            try:
                check_stored(sent, resource)
            except PersistenceError:
                with suppress(PersistenceError):
                    self.delete(stored)  # nothing is on the storage yet
                raise
        except Conflict:
            present = self._look(kind, record.id)
            if present is None or not present.was_written_by(write):
                raise RecordExists(f"{record.KIND} {record.id} exists") from None
        except Forbidden:
            self._check_lease()
            raise
        self._status_writer.start()
        return copy(stored)

    @fenced_write
    def update(self, record: R) -> R:
        stored = copy(record)
        stored.revision = record.revision + 1
        stored.updated_at = utc_now()
        kind, write = type(stored), _new_write()
        cache = self._cache(kind)
        present = cache.get(record.id)
        while True:
            if present is None or present.record.revision != record.revision:
                present = self._look(kind, record.id)
                if present is not None and present.was_written_by(write):
                    break  # an answer was lost on its way
                present = _check_present(present, record)
            self._check_term(present)
            try:
                sent = next_resource(stored, present, write=write, epoch=self._epoch)
                resource = self._api.replace(RESOURCES[kind].plural, sent)
                stored = _as_seen(stored, cache.put(resource))
                check_stored(sent, resource)
                break
            except Conflict:
                present = None  # by a status or an annotation, or by another writer: look
            except Missing:
                cache.remove(record.id, present.uid)
                raise RecordNotFound(f"{record.KIND} {record.id} does not exist") from None
            except Forbidden as error:
                self._check_lease()
                raise Forbidden(f"{error}. {_GUARDED}") from error
        self._status_writer.start()
        return copy(stored)

    @fenced_write
    def delete(self, record: Record) -> None:
        kind = type(record)
        cache = self._cache(kind)
        present = cache.get(record.id) or self._look(kind, record.id)
        while present is not None:
            self._check_term(present)
            try:
                self._remove(kind, present)
            except Conflict:
                present = self._look(kind, record.id)  # by a status, or by another writer
                continue
            except Missing:
                pass
            cache.remove(record.id, present.uid)
            break
        self._status_writer.start()

    def get(self, kind: type[R], record_id: str) -> R | None:
        present = self._cache(kind).get(record_id)
        return None if present is None else copy(with_use(present.record, self._find))  # type: ignore[return-value]

    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        wanted = self.wanted_keys(kind, keys)
        found = self._cache(kind).find(wanted, after=after, limit=limit)
        return [copy(with_use(record, self._find)) for record in found]

    def recorded_gib(self, *, backend: str) -> dict[str, int]:
        return self._cache(VolumeRecord).recorded_gib(backend)

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        return [copy(node) for node in self._cache(NodeRecord).nodes_named(names)]

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        return [copy(node) for node in self._cache(NodeRecord).nodes_silent_since(moment)]

    def health(self) -> None:
        if self._closed:
            raise PersistenceError("the store was closed")
        if (silence := self._silent_seconds()) > _SILENCE_LIMIT:
            raise PersistenceError(f"the Kubernetes API server has not answered for {silence:.0f} s")

    def is_current(self) -> bool:
        """Not from the begin of an outage until all is read again: etcd may have been restored meanwhile."""
        return not self._silent_seconds()

    def tell_when_current(self, event: threading.Event) -> None:
        with self._await_lock:
            self._await_current.add(event)

    def close(self) -> None:
        self._closed = True
        self._cluster_watch.stop()
        self._api.close()
        self._events.close()
        self._status_writer.stop()
        self.backends.close()
        for opening in self._opening.values():
            with opening:
                pass  # a cache that is being opened is there, or has failed
        for cache in self._caches.values():
            cache.close()
        self._lease.close()

    def use_connection_sealer(self, seal: Callable[[str, str], str]) -> None:
        self._status_writer.seal_connection = seal

    def use_connection_renewer(self, is_renewing: Callable[[str, str], bool]) -> None:
        self._status_writer.is_renewing = is_renewing

    def use_filesystem_recorder(self, take_over: Callable[[str], None]) -> None:
        self._status_writer.take_over_filesystems = take_over

    def use_volume_health(self, read: Callable[[str], list[tuple[str, str]]]) -> None:
        self._status_writer.volume_health = read

    def volume_health_changed(self, volume_ids: Iterable[str]) -> None:
        for volume_id in volume_ids:
            self._status_writer.changed(VolumeRecord, volume_id)

    def record_event(self, kind: type[Record], record_id: str, reason: str, message: str) -> None:
        self._status_writer.record_event(kind, record_id, reason, message)

    def start_upkeep(self) -> None:
        """Write statuses, and grant deletions by administrators, from now on rather than from the first write on; and
        look at what Kubernetes has of nodes and volumes."""
        self._status_writer.start()
        self._cluster_watch.start()

    def use_fence(self, fence: Fence) -> None:
        super().use_fence(fence)
        self._api.before_write = fence.check

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        return self._lease.acquire_lease(name, holder=holder, seconds=seconds)

    def lease_term(self, name: str) -> LeaseTerm:
        return self._lease.lease_term(name)

    def release_lease(self, name: str, *, holder: str) -> None:
        self._lease.release_lease(name, holder=holder)

    def _silent_seconds(self) -> float:
        return max((cache.silent_seconds() for cache in list(self._caches.values())), default=0.0)

    def _cache(self, kind: type[Record]) -> WatchCache:
        """The kind's cache. Only kinds that are used are watched, and only from their first use on."""
        if self._closed:
            raise PersistenceError("the store was closed")
        cache = self._caches.get(kind)
        if cache is None:
            if kind is VolumeRecord:
                self._cache(ConnectionRecord)  # which tell whether a volume is in use
            with self._opening[kind]:
                cache = self._caches.get(kind)
                if cache is None:
                    cache = self._caches[kind] = WatchCache(
                        self._api, kind, on_change=self._status_writer.changed, on_current=self._cache_is_current
                    )
        return cache

    def _cache_is_current(self) -> None:
        if self.is_current():
            with self._await_lock:
                for event in self._await_current:
                    event.set()

    def _find(self, kind: type[Record], **keys: str) -> list[Any]:
        return self._cache(kind).find(keys, after=None, limit=None)

    def _look(self, kind: type[Record], record_id: str) -> RecordResource | None:
        """The record as the API server has it now."""
        resource = self._api.get(RESOURCES[kind].plural, resource_name(record_id))
        cache = self._cache(kind)
        if resource is not None:
            try:
                return cache.put(resource)
            except (ValueError, TypeError, KeyError) as error:
                name = f"{RESOURCES[kind].kind} {resource_name(record_id)}"
                raise PersistenceError(f"{name} holds no record, and has to be removed by hand: {error}") from error
        if (known := cache.get(record_id)) is not None:
            cache.remove(record_id, known.uid)
        return None

    def _remove(self, kind: type[Record], present: RecordResource) -> None:
        plural, name, version = RESOURCES[kind].plural, present.metadata["name"], present.version
        if present.has_finalizer:
            others = [finalizer for finalizer in present.finalizers if finalizer != FINALIZER]
            patch = {"finalizers": others or None, "resourceVersion": str(version)}
            version = int(self._api.merge(plural, name, {"metadata": patch})["metadata"]["resourceVersion"])
        self._api.delete(plural, name, version=version)

    @property
    def _epoch(self) -> int:
        return 0 if self.fence is None else self.fence.epoch

    def _check_term(self, present: RecordResource) -> None:
        """Raise LeadershipLost when a later controller has written a resource. Its word is not enough: anybody may
        annotate it."""
        if self.fence is not None and present.epoch > self.fence.epoch:
            self._check_lease()

    def _check_lease(self) -> None:
        """Raise LeadershipLost when it is in a later term than ours."""
        if self.fence is None:
            return
        epoch = self._lease.present_epoch(self.fence.lease)
        if epoch > self.fence.epoch:
            self.fence.refuse(f"another controller is active: the Lease is in its term {epoch}, ours was {self._epoch}")


def _as_seen(stored: R, found: RecordResource) -> R:
    """What was stored, as it is read from now on: a node's times are what the API server and this controller saw."""
    return found.record if isinstance(stored, NodeRecord) else stored  # type: ignore[return-value]


def _check_present(present: RecordResource | None, record: Record) -> RecordResource:
    """What is there, if it still has the record's revision."""
    if present is None:
        raise RecordNotFound(f"{record.KIND} {record.id} does not exist")
    if present.record.revision != record.revision:
        raise RevisionConflict(
            f"{record.KIND} {record.id} has revision {present.record.revision}, not {record.revision}"
        )
    return present


def _new_write() -> str:
    return uuid.uuid4().hex[:16]
