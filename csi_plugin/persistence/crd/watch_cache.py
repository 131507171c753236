"""What the API server has of one kind of record, kept up to date by a watch, so that reads cost no call."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from csi_plugin.persistence.crd import node_sightings
from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.crd.kinds import RESOURCES, resource_name
from csi_plugin.persistence.crd.list_watch import ListWatch
from csi_plugin.persistence.crd.resource import RecordResource, parse_resource
from csi_plugin.persistence.record_index import RecordIndex
from csi_plugin.persistence.records import JSON, NodeRecord, Record

LOG = logging.getLogger(__name__)


class WatchCache:
    """Thread-safe. Own writes are put in as their answers come, so that readers of this process see them at once."""

    def __init__(
        self,
        api: ResourceAPI,
        kind: type[Record],
        *,
        on_change: Callable[[type[Record], str], None],
        on_current: Callable[[], None] = lambda: None,
    ) -> None:
        """List the kind, and follow it from there in a thread of its own. ``on_change(kind, record id)`` is called,
        from any thread, after a record came, changed or went; ``on_current()`` when silent_seconds() is 0 again.

        Raises PersistenceError when the kind cannot be listed.
        """
        self._kind = kind
        self._plural = RESOURCES[kind].plural
        self._on_change = on_change
        self._lock = threading.Lock()
        self._resources: dict[str, RecordResource] = {}
        self._index = RecordIndex(kind)
        self._deleted: dict[str, float] = {}
        """UIDs of resources that are known to be gone while events of theirs may still be under way."""
        self._list_watch = ListWatch(
            api,
            self._plural,
            on_list=self._relist,
            on_put=self._put_announced,
            on_gone=self._remove_announced,
            on_current=on_current,
        )
        self._list_watch.start()

    def get(self, record_id: str) -> RecordResource | None:
        with self._lock:
            return self._resources.get(record_id)

    def find(self, wanted: dict[str, str], *, after: str | None, limit: int | None) -> list[Any]:
        with self._lock:
            return self._index.find(wanted, after=after, limit=limit)

    def recorded_gib(self, backend: str) -> dict[str, int]:
        """Of the cache of volumes: GiB on a backend, by pool."""
        with self._lock:
            return self._index.recorded_gib(backend)

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        """Of the cache of nodes: what RecordStore.nodes_named() returns."""
        with self._lock:
            return self._index.nodes_named(names)

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        """Of the cache of nodes: what RecordStore.nodes_silent_since() returns."""
        with self._lock:
            return self._index.nodes_silent_since(moment)

    def put(self, resource: JSON) -> RecordResource:
        """Take in what the API server answered or announced, unless something newer is there; what it holds."""
        found = parse_resource(self._kind, resource)
        with self._lock:
            present = self._resources.get(found.record.id)
            is_newer = found.uid not in self._deleted and (present is None or present.version < found.version)
            if is_newer:
                self._set(found)
            elif present is not None and present.version == found.version:
                found = present  # with what was noted of it
        if is_newer:
            self._on_change(self._kind, found.record.id)
        return found

    def remove(self, record_id: str, uid: str) -> None:
        """A resource is gone, as the API server answered or announced."""
        with self._lock:
            self._deleted[uid] = time.monotonic()
            present = self._resources.get(record_id)
            if present is not None and present.uid == uid:
                self._unset(record_id)
        self._on_change(self._kind, record_id)

    def silent_seconds(self) -> float:
        """How long the API server has not been reached; 0 when all is well."""
        return self._list_watch.silent_seconds()

    def close(self) -> None:
        self._list_watch.close()

    def _set(self, found: RecordResource) -> None:
        if self._kind is NodeRecord:
            node_sightings.take_note(found, self._resources.get(found.record.id))
        self._resources[found.record.id] = found
        self._index.put(found.record)

    def _unset(self, record_id: str) -> None:
        self._resources.pop(record_id, None)
        self._index.remove(record_id)

    def _put_announced(self, resource: JSON) -> None:
        try:
            self.put(resource)
        except (ValueError, TypeError, KeyError) as error:
            LOG.error("%s %s holds no record: %s", self._plural, resource["metadata"]["name"], error)

    def _remove_announced(self, resource: JSON) -> None:
        uid = resource["metadata"]["uid"]
        record_id = (resource.get("spec") or {}).get("id")
        if record_id and resource_name(record_id) != resource["metadata"]["name"]:
            # It has been given another's id: the record that it was is known by its own.
            with self._lock:
                record_id = next((known for known, found in self._resources.items() if found.uid == uid), None)
        if record_id:
            self.remove(record_id, uid)
        # The last that is ever heard of it.
        with self._lock:
            self._deleted.pop(uid, None)

    def _relist(self, resources: list[JSON], version: int, heard: int) -> None:
        found = {}
        for resource in resources:
            try:
                parsed = parse_resource(self._kind, resource)
            except (ValueError, TypeError, KeyError) as error:
                LOG.error("%s %s holds no record: %s", self._plural, resource["metadata"]["name"], error)
                continue
            found[parsed.record.id] = parsed
        with self._lock:
            changed = self._take(found, version, heard)
        for record_id in changed:
            self._on_change(self._kind, record_id)

    def _take(self, found: dict[str, RecordResource], version: int, heard: int) -> list[str]:
        """Make the list the truth, but for what was written after it; the ids of what changed."""
        # After etcd was restored from a backup, time begins again earlier: then nothing here is newer than the list.
        # Or later, as Kubernetes' manual has it; but what is in the backup keeps its versions.
        latest = max((parsed.version for parsed in self._resources.values()), default=0)
        was_restored = heard > version and latest > version
        # What is listed in spite of an earlier deletion is back out of a backup.
        began = self._list_watch.list_began
        self._deleted = {uid: at for uid, at in self._deleted.items() if at >= began and not was_restored}
        changed = []
        for record_id, present in list(self._resources.items()):
            if record_id not in found and (was_restored or present.version <= version):
                self._unset(record_id)
                changed.append(record_id)
        for record_id, parsed in found.items():
            known = self._resources.get(record_id)
            is_newer = known is None or known.version < parsed.version or parsed.version < known.version <= version
            if parsed.uid not in self._deleted and (was_restored or is_newer):
                self._set(parsed)
                changed.append(record_id)
        return changed
