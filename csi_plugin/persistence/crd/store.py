"""Records in custom resources: reads from watch caches, writes straight to the API server."""

import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from csi_plugin.persistence.base import PersistenceError, RecordExists, RecordNotFound, RevisionConflict, traced
from csi_plugin.persistence.builtin_plugin import BuiltinPlugin
from csi_plugin.persistence.crd.api import Conflict, Missing, ResourceAPI
from csi_plugin.persistence.crd.backend_resources import BackendResources
from csi_plugin.persistence.crd.events import Events
from csi_plugin.persistence.crd.kinds import FINALIZER, GROUP, RESOURCES, VERSION, resource_name
from csi_plugin.persistence.crd.lease import KubernetesLease
from csi_plugin.persistence.crd.resource import RecordResource, new_resource, next_resource
from csi_plugin.persistence.crd.status_writer import StatusWriter
from csi_plugin.persistence.crd.volume_use import with_use
from csi_plugin.persistence.crd.watch_cache import WatchCache
from csi_plugin.persistence.encoding import copy, utc_now
from csi_plugin.persistence.records import ConnectionRecord, Record, VolumeRecord

R = TypeVar("R", bound=Record)

_SILENCE_LIMIT = 60.0
"""Seconds for which reads go on from the caches while the API server is unreachable."""


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
        self._lease = KubernetesLease(namespace=namespace, kubeconfig=kubeconfig)
        self._opening = {kind: threading.Lock() for kind in RESOURCES}
        self._caches: dict[type[Record], WatchCache] = {}
        self._events = Events(namespace=namespace, kubeconfig=kubeconfig)
        self._status_writer = StatusWriter(self._api, self._events, self._cache)
        self.backends = BackendResources(self._api, self._events, self._find)
        """The CinderBackends beside the records."""
        self._closed = False

    @property
    def namespace(self) -> str:
        return self._api.namespace

    @traced
    def create(self, record: R) -> R:
        stored = copy(record)
        stored.revision = 1
        stored.created_at = stored.created_at or utc_now()
        kind, write = type(stored), _new_write()
        cache = self._cache(kind)
        try:
            resource = self._api.create(
                RESOURCES[kind].plural, new_resource(stored, namespace=self.namespace, write=write)
            )
            cache.put(resource)
        except Conflict:
            present = self._look(kind, record.id)
            if present is None or not present.was_written_by(write):
                raise RecordExists(f"{record.KIND} {record.id} exists") from None
        self._status_writer.start()
        return copy(stored)

    @traced
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
                present = _checked(present, record)
            try:
                cache.put(self._api.replace(RESOURCES[kind].plural, next_resource(stored, present, write=write)))
                break
            except Conflict:
                present = None  # by a status or an annotation, or by another writer: look
            except Missing:
                cache.remove(record.id, present.uid)
                raise RecordNotFound(f"{record.KIND} {record.id} does not exist") from None
        self._status_writer.start()
        return copy(stored)

    @traced
    def delete(self, record: Record) -> None:
        kind = type(record)
        plural, name, cache = RESOURCES[kind].plural, resource_name(record.id), self._cache(kind)
        present = cache.get(record.id)
        try:
            if present is not None and present.has_finalizer:
                self._remove_finalizer(plural, name, present)
            answer = self._api.delete(plural, name)
            if answer.get("kind") == RESOURCES[kind].kind:
                # It was written since the cache heard of it, and held.
                present = cache.put(answer)
                self._remove_finalizer(plural, name, present)
        except Missing:
            present = present or cache.get(record.id)
        if present is not None:
            cache.remove(record.id, present.uid)
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

    def health(self) -> None:
        if self._closed:
            raise PersistenceError("the store was closed")
        if (silence := self._silent_seconds()) > _SILENCE_LIMIT:
            raise PersistenceError(f"the Kubernetes API server has not answered for {silence:.0f} s")

    def is_current(self) -> bool:
        """Not from the begin of an outage until all is read again: etcd may have been restored meanwhile."""
        return not self._silent_seconds()

    def close(self) -> None:
        self._closed = True
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

    def use_filesystem_recorder(self, take_over: Callable[[str], None]) -> None:
        self._status_writer.take_over_filesystems = take_over

    def use_volume_health(self, read: Callable[[str], list[tuple[str, str]]]) -> None:
        self._status_writer.volume_health = read

    def volume_health_changed(self, volume_ids: Iterable[str]) -> None:
        for volume_id in volume_ids:
            self._status_writer.changed(VolumeRecord, volume_id)

    def start_upkeep(self) -> None:
        """Write statuses, and grant deletions by administrators, from now on rather than from the first write on."""
        self._status_writer.start()

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        return self._lease.acquire_lease(name, holder=holder, seconds=seconds)

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
                    cache = self._caches[kind] = WatchCache(self._api, kind, on_change=self._status_writer.changed)
        return cache

    def _find(self, kind: type[Record], **keys: str) -> list[Any]:
        return self._cache(kind).find(keys, after=None, limit=None)

    def _look(self, kind: type[Record], record_id: str) -> RecordResource | None:
        """The record as the API server has it now."""
        resource = self._api.get(RESOURCES[kind].plural, resource_name(record_id))
        cache = self._cache(kind)
        if resource is not None:
            return cache.put(resource)
        if (known := cache.get(record_id)) is not None:
            cache.remove(record_id, known.uid)
        return None

    def _remove_finalizer(self, plural: str, name: str, present: RecordResource) -> None:
        others = [finalizer for finalizer in present.finalizers if finalizer != FINALIZER]
        self._api.merge(plural, name, {"metadata": {"finalizers": others or None}})


def _checked(present: RecordResource | None, record: Record) -> RecordResource:
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
