"""The persistence interface.

Two faces of one thing:

* ``PersistenceDriverBase`` is what a third-party plugin inherits from: the property ``db`` and twelve methods
  over the library's objects (Volume, Snapshot, Connection, KeyValue), as cinderlib documented them, plus
  optional abilities that have defaults. A plugin with just those methods works.
* ``RecordStore`` is what the rest of Cinderbox talks to: six methods over plain records. The built-in plugins
  implement it natively; ``csi_plugin.storage.compatibility.cinderlib_plugin_store`` puts it on top of a third-party
  plugin.
"""

import importlib
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from csi_plugin.persistence import initiators
from csi_plugin.persistence.errors import (
    InvalidPersistence,
    LeadershipLost,
    PersistenceError,
    RecordExists,
    RecordNotFound,
    RevisionConflict,
    UnstorableText,
)
from csi_plugin.persistence.leases import Fence, LeaseTerm
from csi_plugin.persistence.records import NodeRecord, Record, VolumeRecord

# The errors are of this interface, which plugins import from one place.
__all__ = [
    "DB",
    "InvalidPersistence",
    "LeadershipLost",
    "PersistenceDriverBase",
    "PersistenceError",
    "RecordExists",
    "RecordNotFound",
    "RecordStore",
    "RevisionConflict",
    "UnstorableText",
    "age",
    "changed_fields",
    "is_silent_since",
    "vol_type_to_dict",
]

R = TypeVar("R", bound=Record)


class RecordStore(ABC):
    """Keeps records. Every method is thread-safe and returns copies: changing a record changes nothing until
    update().

    A write that has returned survives a crash of the process (and of the machine, for plugins that persist at
    all).
    """

    ATOMIC_ACROSS_PROCESSES: bool = False
    """Whether create() and update() are atomic between processes; a standby replica needs it."""
    DERIVES_USE: bool = False
    """Whether volumes are read as in use because they have connections, so that nobody has to store it."""
    fence: Fence | None = None
    """Set by use_fence(); without one, whoever writes does so."""

    @abstractmethod
    def create(self, record: R) -> R:
        """Store a new record and return it with revision 1 and ``created_at`` set (unless it came with one).

        Raises RecordExists when one of its kind and id is there; exactly one of several concurrent callers
        wins.
        """

    @abstractmethod
    def update(self, record: R) -> R:
        """Replace the stored record if it still has ``record.revision``; return it with the next revision.

        Raises RevisionConflict or RecordNotFound; nothing was changed then.
        """

    @abstractmethod
    def delete(self, record: Record) -> None:
        """Remove the record of that kind and id, whatever its revision; an absent one is no error."""

    @abstractmethod
    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record of that kind and id, or None."""

    @abstractmethod
    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        """Records of a kind whose ``keys`` (names out of kind.KEYS) have the given values, in order of id.

        Keyset paging: at most ``limit`` records with an id greater than ``after``. A key given as None is
        ignored. Raises ValueError for a name that is not in kind.KEYS.
        """

    def find_any(self, kind: type[R], key: str, values: Iterable[str]) -> list[R]:
        """Records of a kind whose ``key`` (one of kind.KEYS) has one of the values, in no order.

        A store to which each find() is a round trip overrides it with one that asks for many values at once.
        """
        found: list[R] = []
        for value in dict.fromkeys(values):
            keys: dict[str, Any] = {key: value}
            found += self.find(kind, **keys)
        return found

    def recorded_gib(self, *, backend: str) -> dict[str, int]:
        """GiB of all volumes recorded on a backend, by pool; those whose record names none are under "".

        A store that can count without reading the records overrides it.
        """
        found: Counter[str] = Counter()
        for record in self.find(VolumeRecord, backend=backend):
            found[record.pool] += record.size
        return dict(found)

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        """The nodes that have one of these names on the storage network (see initiators.names), in order of id.

        A store that can find them without reading all nodes overrides it.
        """
        wanted = set(names)
        return [node for node in self.find(NodeRecord) if not wanted.isdisjoint(initiators.names(node.connector))]

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        """The nodes that were last written before ``moment``, in order of id.

        A store that can find them without reading all nodes overrides it.
        """
        return [node for node in self.find(NodeRecord) if is_silent_since(node, moment)]

    def in_listing_order(self, records: list[R]) -> list[R]:
        """Records of one kind in the order in which programs see them: as cinderlib's plugin of that kind had it. Here
        oldest first."""
        return sorted(records, key=age)

    @abstractmethod
    def health(self) -> None:
        """Raise PersistenceError when the store cannot serve right now. Cheap: it runs at every Probe."""

    def is_current(self) -> bool:
        """Whether reads tell what is there now. Cheap; only a store that keeps a copy, and lost touch, says no."""
        return True

    def tell_when_current(self, event: threading.Event) -> None:
        """Set an event when is_current() becomes True, as long as somebody holds the event. To wait, tell first and ask
        then. The default is for stores that always are."""
        event.set()

    @abstractmethod
    def close(self) -> None:
        """Release connections and files. The store cannot be used afterwards. Repeating it does nothing."""

    @staticmethod
    def wanted_keys(kind: type[Record], keys: Mapping[str, str | None]) -> dict[str, str]:
        """The keys of a find() that restrict it. Raises ValueError for a name that is not in kind.KEYS."""
        unknown = sorted(set(keys) - set(kind.KEYS))
        if unknown:
            allowed = ", ".join(kind.KEYS) or "none"
            raise ValueError(f"{kind.KIND} records have no key {', '.join(unknown)}; keys are: {allowed}")
        return {name: value for name, value in keys.items() if value is not None}

    def use_sealer(self, sealer: Any) -> None:  # noqa: B027 - most stores need not know that they are sealed
        """Told by SealingStore what seals the records, for stores with other ways in than these methods."""

    def use_fence(self, fence: Fence) -> None:
        """Told by the active controller, before it writes: no write begins, or takes effect, after its leadership, as
        far as the store can tell. Each write raises LeadershipLost then."""
        self.fence = fence

    def use_connection_sealer(self, seal: Callable[[str, str], str]) -> None:  # noqa: B027 - most are not read by nodes
        """Told by the active controller, for stores that nodes read: ``seal(node id, volume id)`` answers with the
        connection sealed to the node's present key, in base64; empty when there is none. It raises PersistenceError."""

    def use_connection_renewer(self, is_renewing: Callable[[str, str], bool]) -> None:  # noqa: B027 - as above
        """Told by the active controller, for stores that nodes read: ``is_renewing(node id, volume id)`` tells whether
        a volume that was published to what a node was before is exported anew first, which begins then. It raises
        PersistenceError."""

    def use_filesystem_recorder(self, take_over: Callable[[str], None]) -> None:  # noqa: B027 - as above
        """Told by the active controller, for stores that nodes write to: ``take_over(node id)`` is called when a node
        has told of volumes with a filesystem in its record. It raises PersistenceError when it is to be repeated."""

    def use_volume_health(self, read: Callable[[str], list[tuple[str, str]]]) -> None:  # noqa: B027 - as above
        """Told by the active controller, for stores that people look at: ``read(volume id)`` answers with reason and
        message of what is wrong with a volume."""

    def cluster_networks(self) -> list[str]:
        """Of a cluster's services and pods, in stores that know of one: no storage is behind these."""
        return []

    def volume_health_changed(self, volume_ids: Iterable[str]) -> None:  # noqa: B027 - as above
        """Told by the active controller: what ``read`` answers for these volumes has changed."""

    def record_event(self, kind: type[Record], record_id: str, reason: str, message: str) -> None:  # noqa: B027
        """Record what was found about an object for administrators, in stores that have Events.

        ``reason``: one CamelCase word. Raises nothing; the caller has logged it.
        """

    def start_upkeep(self) -> None:  # noqa: B027 - most stores have none
        """Told by the active controller, for stores with work to do in the background from its start on."""

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        """Take or renew a lease that expires by itself; False when another holder has it.

        Only stores that are atomic across processes have it; others raise NotImplementedError.
        """
        raise NotImplementedError(f"{type(self).__name__} has no lease")

    def lease_term(self, name: str) -> LeaseTerm:
        """The term of the lease that acquire_lease() has got for this process."""
        return LeaseTerm()

    def release_lease(self, name: str, *, holder: str) -> None:
        """Release a lease so that another holder need not wait for it to expire."""
        raise NotImplementedError(f"{type(self).__name__} has no lease")


def age(record: Record) -> tuple[datetime, str]:
    """Sorts records by the time of their creation, oldest first."""
    return record.created_at or datetime.min.replace(tzinfo=UTC), record.id


def is_silent_since(node: NodeRecord, moment: datetime) -> bool:
    """Whether a node was last written before ``moment``; one that does not tell when it was is not silent."""
    written = node.updated_at or node.created_at
    return written is not None and written < moment


def changed_fields(ovo: Any) -> set[str]:
    """Names of a versioned object's own fields that changed since it was saved.

    Its obj_what_changed() asks relatives too, which refer back to it: it would never return.
    """
    changed = {name for name in ovo._changed_fields if name in ovo.fields}
    for name in ("metadata", "admin_metadata", "glance_metadata"):  # changed in place
        if name in ovo.fields and ovo.obj_attr_is_set(name) and getattr(ovo, name) != getattr(ovo, f"_orig_{name}", {}):
            changed.add(name)
    volume_type = getattr(ovo, "volume_type", None)
    if volume_type and volume_type.obj_what_changed():
        changed.add("volume_type")
    return changed


def vol_type_to_dict(volume_type: Any) -> dict[str, Any]:
    """The fields of one of Cinder's volume types as plain data, its QoS specs in it."""
    data: dict[str, Any] = volume_type.obj_to_primitive()["versioned_object.data"]
    if data.get("qos_specs"):
        data["qos_specs"] = data["qos_specs"]["versioned_object.data"]
    return data


class DB:
    """What a plugin's ``db`` may return when it has no database: Cinder's functions, answered from the plugin.

    As cinderlib's, it is made of the plugin; the library answers Cinder's database calls from the plugin in use.
    """

    def __init__(self, persistence_driver: Any) -> None:
        self.persistence = persistence_driver

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(importlib.import_module("cinder.db"), name)


class PersistenceDriverBase:
    """Base of third-party plugins; see the persistence page of the documentation for a complete example.

    ``__init__`` receives the keys of ``persistence_config`` other than ``storage``. The objects handed to
    set_* carry Cinder's versioned object as ``_ovo`` and serialise with ``.jsons``/``.dumps``;
    ``csi_plugin.load`` makes objects of those again.

    A plugin implements ``db``, the get_* methods (lists, empty when nothing matches; ``None`` and ``""``
    match everything), the set_* methods (store the object, new or not) and the delete_* methods (an absent
    one is no error). Its set_* and delete_* end with a call of this class's, which marks the object as saved
    or deleted.

    Everything else has a default. Cinderbox keeps its records as JSON in key-values whose keys begin with
    ``cinderbox.``, and gives the plugin each volume, snapshot and connection too. The defaults are atomic within one
    process, because Cinderbox holds a lock around them; a plugin that several processes share overrides
    create_if_absent and compare_and_set, and sets ``ATOMIC_ACROSS_PROCESSES``.
    """

    ATOMIC_ACROSS_PROCESSES: bool = False
    """Whether create_if_absent and compare_and_set are the plugin's own and atomic between processes."""
    THREAD_SAFE: bool = False
    """Whether several threads may call the plugin at once; otherwise Cinderbox calls it from one at a time."""

    def __init__(self, **kwargs: Any) -> None:
        pass

    @property
    def db(self) -> Any:
        """What Cinder drivers get as their database; None lets Cinderbox answer from this plugin."""
        raise NotImplementedError

    def get_volumes(
        self, volume_id: str | None = None, volume_name: str | None = None, backend_name: str | None = None
    ) -> list[Any]:
        raise NotImplementedError

    def get_snapshots(
        self, snapshot_id: str | None = None, snapshot_name: str | None = None, volume_id: str | None = None
    ) -> list[Any]:
        raise NotImplementedError

    def get_connections(self, connection_id: str | None = None, volume_id: str | None = None) -> list[Any]:
        raise NotImplementedError

    def get_key_values(self, key: str | None = None) -> list[Any]:
        raise NotImplementedError

    def set_volume(self, volume: Any) -> None:
        self.reset_change_tracker(volume)
        volume_type = getattr(volume._ovo, "volume_type", None)
        if volume_type:
            volume_type.obj_reset_changes()
            if volume_type.qos_specs_id and volume_type.qos_specs:
                volume_type.qos_specs.obj_reset_changes()

    def set_snapshot(self, snapshot: Any) -> None:
        self.reset_change_tracker(snapshot)

    def set_connection(self, connection: Any) -> None:
        self.reset_change_tracker(connection)

    def set_key_value(self, key_value: Any) -> None:
        pass

    def delete_volume(self, volume: Any) -> None:
        self._mark_deleted(volume)

    def delete_snapshot(self, snapshot: Any) -> None:
        self._mark_deleted(snapshot)

    def delete_connection(self, connection: Any) -> None:
        self._mark_deleted(connection)

    def delete_key_value(self, key_value: Any) -> None:
        pass

    def create_if_absent(self, key_value: Any) -> bool:
        """Store a key-value unless one with its key is there; whether it was stored.

        The default looks and then stores; Cinderbox calls it under a lock, so one process is safe.
        """
        if self.get_key_values(key_value.key):
            return False
        self.set_key_value(key_value)
        return True

    def compare_and_set(self, key_value: Any, *, old_value: str) -> bool:
        """Replace a key-value whose value is still ``old_value``; whether it was.

        The default just stores: Cinderbox has compared under a lock, so one process is safe.
        """
        self.set_key_value(key_value)
        return True

    def get_key_values_page(self, prefix: str, *, after: str | None, limit: int) -> list[Any]:
        """At most ``limit`` key-values whose key begins with ``prefix`` and is greater than ``after``, in order.

        The default reads all key-values; a plugin that can seek overrides it.
        """
        found = {
            key_value.key: key_value
            for key_value in self.get_key_values(None)
            if key_value.key.startswith(prefix) and (after is None or key_value.key > after)
        }
        return [found[key] for key in sorted(found)[:limit]]

    def health(self) -> None:
        """Raise PersistenceError when the plugin cannot serve right now. Cheap; by default it always can."""

    def close(self) -> None:
        """Release connections and files. By default there are none."""

    def reset_change_tracker(self, resource: Any, fields: str | Iterable[str] | None = None) -> None:
        """Mark all fields of the object (or the named ones) as saved."""
        resource._ovo.obj_reset_changes((fields,) if isinstance(fields, str) else fields)

    def get_changed_fields(self, resource: Any) -> dict[str, Any]:
        """Name and value of the fields that changed since the last set_*, without nested objects.

        A volume whose specs changed has them as ``extra_specs`` and ``qos_specs``.
        """
        changed = changed_fields(resource._ovo)
        values = {name: value for name, value in self._plain_fields(resource).items() if name in changed}
        volume_type = getattr(resource._ovo, "volume_type", None)
        if volume_type:
            changed_of_type = volume_type.obj_what_changed()
            if "qos_specs" in changed_of_type and volume_type.qos_specs:
                values["qos_specs"] = volume_type.qos_specs.specs
            if "extra_specs" in changed_of_type and volume_type.extra_specs:
                values["extra_specs"] = volume_type.extra_specs
        return values

    def get_fields(self, resource: Any) -> dict[str, Any]:
        """Name and value of all fields that are set, without nested objects; specs as above."""
        values = self._plain_fields(resource)
        if getattr(resource._ovo, "volume_type_id", None):
            values["extra_specs"] = resource._ovo.volume_type.extra_specs
            if resource._ovo.volume_type.qos_specs_id:
                values["qos_specs"] = resource._ovo.volume_type.qos_specs.specs
        return values

    @staticmethod
    def _plain_fields(resource: Any) -> dict[str, Any]:
        from oslo_versionedobjects.fields import (
            ObjectField,
        )  # not at import: the node process has no use for it

        ovo = resource._ovo
        computed = set(getattr(ovo, "obj_extra_fields", ()))
        return {
            name: getattr(ovo, name)
            for name, kind in ovo.fields.items()
            if not isinstance(kind, ObjectField) and name not in computed and ovo.obj_attr_is_set(name)
        }

    def _mark_deleted(self, resource: Any) -> None:
        ovo = resource._ovo
        ovo.deleted = True
        ovo.deleted_at = datetime.now(UTC)
        if "status" in ovo.fields:
            ovo.status = "deleted"
        self.reset_change_tracker(resource)
