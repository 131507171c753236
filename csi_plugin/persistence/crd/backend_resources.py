"""CinderBackends: the backends that administrators define, and the status of each."""

import base64
import binascii
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from csi_plugin.persistence.crd.api import Missing, ResourceAPI
from csi_plugin.persistence.crd.events import Events, EventType, reference
from csi_plugin.persistence.crd.kinds import ACCEPT_MISSING, BACKEND, FINALIZER, FORGET
from csi_plugin.persistence.crd.list_watch import ListWatch
from csi_plugin.persistence.crd.status import DELETION_HELD, READY, deletion_held, merged_conditions
from csi_plugin.persistence.initiators import Find
from csi_plugin.persistence.records import JSON, SnapshotRecord, VolumeRecord

UP_TO_DATE = "UpToDate"
POOL_FULL = "PoolFull"
"""Reason of a backend that serves, and has a pool without room."""


@dataclass(frozen=True, kw_only=True)
class DesiredBackend:
    """What administrators wrote into a CinderBackend."""

    name: str
    driver: str
    options: JSON = field(default_factory=dict)
    secret: str | None = None
    """Name of the Secret with more options."""
    is_suspended: bool = False
    topology: list[dict[str, str]] = field(default_factory=list)
    max_concurrent_operations: int | None = None
    generation: int = 0
    has_finalizer: bool = False
    """Whether our finalizer keeps it from being deleted."""
    is_deleting: bool = False
    is_forgotten: bool = False
    accepts_missing_volumes: bool = False
    """Whether an administrator said that it may go although volumes are on it."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One of the two conditions that are always there. ``status``: None while it is not known."""

    status: bool | None
    reason: str
    message: str

    def of_type(self, name: str) -> JSON:
        status = {True: "True", False: "False", None: "Unknown"}[self.status]
        return {"type": name, "status": status, "reason": self.reason, "message": self.message}


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool's room in GiB, or what the driver says instead of it."""

    name: str
    capacity: float | str
    free: float | str


@dataclass(frozen=True, kw_only=True)
class BackendReport:
    """The status of a backend, for humans."""

    ready: Condition
    up_to_date: Condition
    pools: tuple[Pool, ...] = ()
    volumes: int = 0
    snapshots: int = 0
    deletion_blocker: str = ""
    """Why it is kept although it was deleted; empty when it was not."""


class BackendResources:
    """The CinderBackends of one namespace. Thread-safe. Methods raise PersistenceError."""

    def __init__(self, api: ResourceAPI, events: Events, find: Find) -> None:
        self._api = api
        self._events = events
        self._find = find
        self._lock = threading.Lock()
        self._found: dict[str, JSON] = {}
        self._on_change: Callable[[], None] = lambda: None
        self._list_watch = ListWatch(
            api, BACKEND.plural, on_list=self._take_all, on_put=self._put, on_gone=self._take_away
        )

    def start(self, on_change: Callable[[], None]) -> None:
        """List and watch them. ``on_change`` is called, from any thread, when an administrator changed one."""
        self._on_change = on_change
        self._list_watch.start()

    def close(self) -> None:
        self._list_watch.close()

    def all(self) -> list[DesiredBackend]:
        with self._lock:
            return [_desired(resource) for resource in self._found.values()]

    def last_reports(self) -> dict[str, dict[str, tuple[bool, str, str]]]:
        """What was said of each last: whether a condition is true, its reason and its message, by its type."""
        resources, _ = self._api.list_all(BACKEND.plural)
        return {
            resource["metadata"]["name"]: {
                condition["type"]: (condition["status"] == "True", condition["reason"], condition["message"])
                for condition in (resource.get("status") or {}).get("conditions") or []
            }
            for resource in resources
        }

    def secret(self, name: str) -> dict[str, str]:
        """A Secret's content. A line feed at the end of a value, as files have, is not taken for a part of it.

        Raises Missing, and ValueError for a value that is not text.
        """
        found = self._api.read(f"/api/v1/namespaces/{self._api.namespace}/secrets/{name}")
        return {key: _text(name, key, value) for key, value in (found.get("data") or {}).items()}

    def count(self) -> tuple[Counter[str], Counter[str]]:
        """Volumes and snapshots that are recorded, by backend; orphans and deferred deletions, too."""
        return (
            Counter(record.backend for record in self._find(VolumeRecord)),
            Counter(record.backend for record in self._find(SnapshotRecord)),
        )

    def add_finalizer(self, name: str) -> None:
        """Keep it from being deleted until remove_finalizer()."""
        self._change_finalizers(name, lambda finalizers: [*finalizers, FINALIZER])

    def remove_finalizer(self, name: str) -> None:
        self._change_finalizers(name, lambda finalizers: [found for found in finalizers if found != FINALIZER])

    def report(self, desired: DesiredBackend, report: BackendReport) -> None:
        """Write the status, if it says anything new, and an Event when a condition has changed."""
        with self._lock:
            resource = self._found.get(desired.name)
        if resource is None:
            return
        present = resource.get("status") or {}
        status = _status(desired, report, present)
        patch = {name: value for name, value in status.items() if present.get(name) != value}
        patch |= {name: None for name in present if name not in status}
        if not patch:
            return
        for event in _due_events(present.get("conditions") or [], status["conditions"]):
            self._events.record(reference(BACKEND.kind, resource["metadata"]), *event)
        with suppress(Missing):
            self._put(self._api.merge_status(BACKEND.plural, desired.name, patch))

    def _change_finalizers(self, name: str, change: Callable[[list[str]], list[str]]) -> None:
        with self._lock:
            resource = self._found.get(name)
        if resource is None:
            return
        metadata = resource["metadata"]
        finalizers = change(metadata.get("finalizers") or [])
        # With the version: another's finalizer that came meanwhile must not be lost.
        patch = {"finalizers": finalizers or None, "resourceVersion": metadata["resourceVersion"]}
        try:
            changed = self._api.merge(BACKEND.plural, name, {"metadata": patch})
        except Missing:
            return
        if finalizers or "deletionTimestamp" not in metadata:
            self._put(changed)

    def _take_all(self, resources: list[JSON], version: int, heard: int) -> None:
        with self._lock:
            self._found = {resource["metadata"]["name"]: resource for resource in resources}
        self._on_change()

    def _put(self, resource: JSON) -> None:
        name = resource["metadata"]["name"]
        with self._lock:
            present = self._found.get(name)
            if present is not None and _is_older(resource, present):
                return
            self._found[name] = resource
        if present is None or _desired(present) != _desired(resource):
            self._on_change()

    def _take_away(self, resource: JSON) -> None:
        with self._lock:
            self._found.pop(resource["metadata"]["name"], None)
        self._on_change()


def _is_older(resource: JSON, present: JSON) -> bool:
    return int(resource["metadata"]["resourceVersion"]) < int(present["metadata"]["resourceVersion"])


def _desired(resource: JSON) -> DesiredBackend:
    spec, metadata = resource["spec"], resource["metadata"]
    return DesiredBackend(
        name=metadata["name"],
        driver=spec["driver"],
        options=spec.get("options") or {},
        secret=(spec.get("secretRef") or {}).get("name"),
        is_suspended=spec.get("suspend", False),
        topology=spec.get("topology") or [],
        max_concurrent_operations=spec.get("maxConcurrentOperations"),
        generation=metadata["generation"],
        has_finalizer=FINALIZER in (metadata.get("finalizers") or []),
        is_deleting="deletionTimestamp" in metadata,
        accepts_missing_volumes=(metadata.get("annotations") or {}).get(ACCEPT_MISSING) == "true",
        is_forgotten=(metadata.get("annotations") or {}).get(FORGET) == "true",
    )


def _text(secret: str, key: str, value: str) -> str:
    try:
        return base64.b64decode(value).decode().removesuffix("\n")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"key {key} of Secret {secret} is not text") from error


def _status(desired: DesiredBackend, report: BackendReport, present: JSON) -> JSON:
    conditions = [report.ready.of_type(READY), report.up_to_date.of_type(UP_TO_DATE)]
    if report.deletion_blocker:
        conditions.append(deletion_held(report.deletion_blocker))
    error = next((found.message for found in (report.up_to_date, report.ready) if found.status is False), "")
    values = {
        "observedGeneration": desired.generation,
        "conditions": merged_conditions(present.get("conditions") or [], *conditions),
        "volumes": report.volumes,
        "snapshots": report.snapshots,
        "pools": [
            {"name": pool.name, "capacity": _quantity(pool.capacity), "free": _quantity(pool.free)}
            for pool in report.pools
        ],
        "capacity": _sum([pool.capacity for pool in report.pools]),
        "free": _sum([pool.free for pool in report.pools]),
        "poolNames": ",".join(pool.name for pool in report.pools),
        "lastError": error,
    }
    return {name: value for name, value in values.items() if value not in ("", [])}


def _sum(rooms: list[float | str]) -> str:
    for word in rooms:
        if isinstance(word, str):
            return word
    return _quantity(sum(float(room) for room in rooms)) if rooms else ""


def _quantity(room: float | str) -> str:
    """A quantity of Kubernetes. Tenths of a GiB are enough for humans, and do not change all the time."""
    if isinstance(room, str):
        return room
    return f"{room:.0f}Gi" if room >= 1000 else f"{round(room, 1):g}Gi"


def _due_events(present: list[JSON], desired: list[JSON]) -> list[tuple[EventType, str, str]]:
    """Type, reason and message of the Events that are due: conditions that are not as they were."""
    known = {condition["type"]: (condition["status"], condition["reason"]) for condition in present}
    due: list[tuple[EventType, str, str]] = []
    for condition in desired:
        name, status, reason = condition["type"], condition["status"], condition["reason"]
        if known.get(name) == (status, reason) or (status == "Unknown" or reason == "Starting"):
            continue
        if name == DELETION_HELD:
            due.append(("Normal", name, condition["message"]))
        elif status == "False" or reason == POOL_FULL:
            due.append(("Warning", reason, condition["message"]))
        elif name == READY or known.get(READY, ("",))[0] == "True":  # at the first start, Ready says enough
            due.append(("Normal", reason, condition["message"]))
    # What keeps a backend from serving is said by both conditions.
    return list(dict.fromkeys(due))
