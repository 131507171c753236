"""What a crash, a failed try or an old backup of the metadata left behind.

Deletions that began are finished, connections that were being made or ended are brought to their end, and volumes
whose deletion waits are deleted when their last dependant is gone. Creations are another matter: what an interrupted
try made is never trusted, and removed only when the storage shows it by its Cinder name, the try ended within the undo
window, and nothing refers to it or uses it. Everything else is held, with a condition that tells a person why.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from csi_plugin.controller import lookups, storage_objects
from csi_plugin.controller.context import Core
from csi_plugin.controller.error_table import cause
from csi_plugin.controller.lookups import Tried
from csi_plugin.controller.recovery import clean_up
from csi_plugin.controller.recovery_queue import Item
from csi_plugin.controller.rpc import group_snapshots
from csi_plugin.persistence.base import PersistenceError, RecordStore
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol.errors import RpcError

LOG = logging.getLogger(__name__)

TRIED: tuple[type[VolumeRecord | SnapshotRecord | GroupSnapshotRecord], ...] = (
    VolumeRecord,
    SnapshotRecord,
    GroupSnapshotRecord,
)
_BACKENDS_POLL_SECONDS = 2.0
"""Pause between two looks whether another backend has become ready."""
DETACHING = ("detaching", "error_detaching")
"""Cinder's own objects know the second word alone."""
RESOURCES: dict[type[Record], str] = {
    VolumeRecord: "volume",
    SnapshotRecord: "snapshot",
    GroupSnapshotRecord: "group-snapshot",
}


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A try that a person may have to decide about."""

    kind: str
    """volume, snapshot or group_snapshot."""
    id: str
    name: str
    """What the CO called it."""
    backend: str
    phase: str
    """creating (interrupted, no repeat came), leftover, or deferred (a deletion that waits)."""
    ended_at: datetime | None
    condition: str


def leftovers(store: RecordStore) -> list[Leftover]:
    """Interrupted and failed tries and waiting deletions, for people. Reads all records; no driver is called.

    Creations that run right now are among those of phase ``creating``.
    """
    return [
        Leftover(
            kind=record.KIND,
            id=record.id,
            name=record.intent.name,
            backend=record.backend,
            phase=record.intent.phase.value,
            ended_at=record.intent.ended_at,
            condition=record.intent.condition,
        )
        for kind in TRIED
        for record in lookups.each(store, kind)
        if record.intent is not None
        and record.intent.phase in (Phase.CREATING, Phase.LEFTOVER, Phase.DEFERRED)
        and record.intent.condition != clean_up.NOTHING_LEFT
    ]


def forget_leftover(store: RecordStore, leftover: Leftover) -> None:
    """Drop a leftover's record, of a group snapshot with its members'. Nothing in the storage is touched."""
    kind = next(kind for kind in TRIED if leftover.kind == kind.KIND)
    for member in store.find(SnapshotRecord, group_snapshot_id=leftover.id) if kind is GroupSnapshotRecord else ():
        store.delete(member)
    if record := store.get(kind, leftover.id):
        store.delete(record)


class Recovery:
    """Runs beside the RPCs, and takes the same in-flight marks as they do.

    One thread finds what there is to do, and each backend that has something has one that does it: a driver that hangs
    keeps only its own backend from being recovered.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._began = datetime.now(UTC)
        self._replayed: set[str] = set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._to_do: dict[str, dict[Item | None, None]] = {}
        """What the thread of each backend has before it, in order; None: to replay. Without entry, there is none."""

    def start(self) -> None:
        """Begin; each backend is recovered as soon as it is ready. Repeating it does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Start no further step. A step that runs is not waited for."""
        self._stopped.set()
        self._core.pending.awake()

    def run_once(self) -> None:
        """Recover backends that have become ready, then look at everything that is pending, to the end."""
        self._recover_backends()
        self._wait_until_done()
        self._look_at_all(self._core.pending.items())
        self._wait_until_done()

    def _wait_until_done(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._to_do)

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._logged("recovery"):
                self._recover_backends()
                self._look_at_all(self._core.pending.items(due=True))
            self._core.pending.wait(_BACKENDS_POLL_SECONDS)

    def _recover_backends(self) -> None:
        ready = [backend.name for backend in self._core.backends.ready()]
        self._replayed.intersection_update(ready)  # one that was removed may come back with what it had
        for name in ready:
            if name not in self._replayed:
                self._replayed.add(name)
                self._have_done(name, None)

    def _look_at_all(self, items: list[Item]) -> None:
        for kind, record_id in items:
            # Whatever comes of this look, the next one is not before then.
            interval = self._core.configuration.recovery_interval_seconds
            self._core.pending.add(kind, record_id, after_seconds=interval)
            record: Any = self._core.store.get(kind, record_id)
            if record is None:
                self._core.pending.discard(kind, record_id)
            else:
                self._have_done(record.backend, (kind, record_id))

    def _have_done(self, backend_name: str, item: Item | None) -> None:
        """Leave it to the backend's thread, which is started if there is none."""
        with self._changed:
            if backend_name in self._to_do:
                self._to_do[backend_name][item] = None
                return
            self._to_do[backend_name] = {item: None}
        threading.Thread(
            target=self._do_all, args=(backend_name,), name=f"recovery of {backend_name}", daemon=True
        ).start()

    def _do_all(self, backend_name: str) -> None:
        while True:
            with self._changed:
                to_do = self._to_do[backend_name]
                if not to_do or self._stopped.is_set():
                    del self._to_do[backend_name]
                    self._changed.notify_all()
                    return
                item = next(iter(to_do))
                del to_do[item]
            if item is None:
                self._replay_or_later(backend_name)
                continue
            kind, record_id = item
            with self._logged(f"{kind.KIND} {record_id}"):
                self._look_at(kind, record_id)

    def _replay_or_later(self, backend_name: str) -> None:
        with self._logged(f"recovery of backend {backend_name}"):
            try:
                self._replay(backend_name)
            except BaseException:
                self._replayed.discard(backend_name)
                raise

    @contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        """One object's trouble must not stop the others, and storage that fails now may work at the next look."""
        try:
            yield
        except RpcError as error:
            LOG.info("%s: not now: %s", what, error.message)
        except PersistenceError as error:
            LOG.warning("%s: %s", what, error)
        except Exception as error:  # a driver can raise anything
            LOG.warning("%s: %s", what, cause(error), exc_info=True)

    def _replay(self, backend_name: str) -> None:
        """After the start of a backend: finish what its records say was under way, and note what is pending."""
        store = self._core.store
        ours: set[str] = set()
        for kind in TRIED:
            for record in lookups.each(store, kind):
                if record.backend == backend_name:
                    ours.add(record.id)
                    with self._logged(f"{kind.KIND} {record.id}"):
                        self._begin(record)
        for group in lookups.each(store, GroupRecord):
            if group.backend == backend_name and group_snapshots.is_left_from_before(self._core, group, self._began):
                self._core.pending.add(GroupRecord, group.id)
        for connection in store.find(ConnectionRecord):
            if connection.volume_id in ours and connection.attach_status != "attached":
                with self._logged(f"connection of volume {connection.volume_id} to {connection.node_id}"):
                    self._finish_connection(connection, backend_name)

    def _begin(self, record: Tried) -> None:
        match record.intent.phase if record.intent else None:
            case Phase.CREATING | Phase.LEFTOVER | Phase.DEFERRED:
                self._core.pending.add(type(record), record.id)
            case Phase.DELETING:
                self._finish_deletion(record)

    def _finish_deletion(self, record: Tried) -> None:
        with self._core.inflight.hold(f"{RESOURCES[type(record)]}/{record.id}"):
            current = self._core.store.get(type(record), record.id)
            if current is None or lookups.intent_of(current).phase is not Phase.DELETING:
                return
            LOG.info("finishing the deletion of %s %s", record.KIND, record.id)
            match current:
                case VolumeRecord():
                    storage_objects.volume(self._core, current).delete(deferred=True)
                    self._core.pending.add(VolumeRecord, current.id)
                case SnapshotRecord():
                    storage_objects.snapshot(self._core, current).delete()
                    self._core.pending.add(VolumeRecord, current.volume_id)
                case GroupSnapshotRecord():
                    storage_objects.group_snapshot(self._core, current).delete()

    def _finish_connection(self, record: ConnectionRecord, backend_name: str) -> None:
        with self._core.inflight.hold(f"volume/{record.volume_id}"):
            current = self._core.store.get(ConnectionRecord, record.id)
            if current is None or current.attach_status == "attached":
                return
            LOG.info("replaying connection %s (%s)", record.id, current.attach_status)
            if current.attach_status in DETACHING:
                storage_objects.connection(self._core, current, backend_name=backend_name).disconnect()
                return
            volume = self._core.store.get(VolumeRecord, current.volume_id)
            if volume is not None:
                storage_objects.volume(self._core, volume).connect(
                    dict(current.connector or {}),
                    id=current.id,
                    node_id=current.node_id,
                    attach_mode=current.attach_mode,
                )

    def _look_at(self, kind: type[Record], record_id: str) -> None:
        if kind is GroupRecord:
            group_snapshots.remove_if_unused(self._core, record_id)
            self._core.pending.discard(kind, record_id)
            return
        record: Any = self._core.store.get(kind, record_id)
        if record is None or record.intent is None:
            self._core.pending.discard(kind, record_id)
            return
        match record.intent.phase:
            case Phase.CREATING:
                self._note_interrupted(record)
            case Phase.LEFTOVER:
                self._undo(record)
            case Phase.DEFERRED:
                self._delete_deferred(record)
            case _:
                self._core.pending.discard(kind, record_id)

    def _note_interrupted(self, record: Tried) -> None:
        """Tell people about a try that no repeat came for. It keeps its name, and is not touched: its object may be
        what a volume of the CO really is, if this record came out of a backup."""
        intent = lookups.intent_of(record)
        with self._core.inflight.hold(f"{RESOURCES[type(record)]}-name/{intent.name}"):
            if self._window_is_over(record.created_at) and not intent.condition:
                intent.condition = "its creation was interrupted and not asked for again; a person has to decide"
                self._core.store.update(record)
                LOG.warning("%s %s (%s): %s", record.KIND, record.id, intent.name, intent.condition)
                self._core.pending.discard(type(record), record.id)

    def _undo(self, record: Tried) -> None:
        resource = f"{RESOURCES[type(record)]}/{record.id}"
        with self._core.inflight.hold(resource), self._core.sources.changing(resource):
            current = self._core.store.get(type(record), record.id)
            if current is None or lookups.intent_of(current).phase is not Phase.LEFTOVER:
                return
            settle = self._core.configuration.settle_seconds
            outcome = clean_up.undo(
                self._core,
                current,
                window_is_over=self._window_is_over(lookups.intent_of(current).ended_at),
                settled=_age(current.updated_at) > settle,
            )
            match outcome:
                case clean_up.Outcome.ENDED:
                    self._core.pending.discard(type(record), record.id)
                case clean_up.Outcome.SETTLING:
                    self._core.pending.add(type(record), record.id, after_seconds=settle)

    def _delete_deferred(self, record: VolumeRecord) -> None:
        with self._core.inflight.hold(f"volume/{record.id}"):
            current = self._core.store.get(VolumeRecord, record.id)
            if current is not None and lookups.intent_of(current).phase is Phase.DEFERRED:
                storage_objects.volume(self._core, current).finish_deferred()

    def _window_is_over(self, ended_at: datetime | None) -> bool:
        return _age(ended_at) > self._core.configuration.undo_window_seconds


def _age(moment: datetime | None) -> float:
    """Seconds since then; without end for a moment that nobody recorded."""
    return (datetime.now(UTC) - moment).total_seconds() if moment else float("inf")
