"""What the controller before this one may still be doing: driver calls that were under way as its lease ran out.

Nobody hears of their end. An array goes on with what it was told, and so does a command that the other host started.
Until that must have settled, nothing is done to the objects that they were about; all others are served.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from csi_plugin.controller import lookups
from csi_plugin.controller.attempts import KINDS, Attempt, phase_of, resource_of
from csi_plugin.controller.context import ControllerContext
from csi_plugin.persistence.base import LeadershipLost, PersistenceError, RecordNotFound, RecordStore, RevisionConflict
from csi_plugin.persistence.leases import LeaseTerm
from csi_plugin.persistence.records import (
    UNDER_WAY,
    ConnectionRecord,
    KeyValueRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)

LOG = logging.getLogger(__name__)

KEY = "cinderbox/predecessor"
"""The key-value by which a controller that is started again, or follows within the time, knows of it."""
SERVING = "cinderbox/serving"
"""The key-value that names the holder of the lease who serves: from when it knows what was under way before until it
has ended in order. A successor that dies before that leaves it as it was."""
_POLL_SECONDS = 1.0
_CHANGING = ("creating", "deleting", "extending", "reverting", "managing", "unmanaging")
"""Statuses of volumes and snapshots that a driver call is about."""


@dataclass(frozen=True)
class _Unsettled:
    holder: str
    until: str
    """ISO 8601."""
    resources: list[str]
    sources: list[str]
    """What they copy from: it may be used, but neither changed nor deleted."""

    @property
    def host(self) -> str:
        return self.holder.partition("/")[0]

    @property
    def seconds_left(self) -> float:
        return (datetime.fromisoformat(self.until) - datetime.now(UTC)).total_seconds()


class PredecessorCalls:
    """Holds what they are about, in a thread of its own, for ``settle_seconds`` from the takeover on."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._stopped = threading.Event()
        self._held: threading.Thread | None = None

    def hold(self, term: LeaseTerm) -> None:
        """Of this process. Where nobody's lease ran out before, one that did earlier may have left calls.

        To be called before anything is served; waits until the store answers.
        """
        store = self._context.store
        while not self._stopped.is_set():
            try:
                predecessor = term.predecessor or _last_serving(store, but=term.holder)
                unsettled = self._note(predecessor) if predecessor else _read(store)
                if term.holder:
                    _write(store, SERVING, term.holder)
            except LeadershipLost:
                raise
            except PersistenceError as error:
                LOG.warning("what the last controller was doing cannot be read, retrying: %s", error)
                self._stopped.wait(_POLL_SECONDS)
                continue
            if unsettled is not None:
                self._hold(unsettled)
            return

    def wait(self) -> None:
        """Return when nothing is held any more."""
        if self._held is not None:
            self._held.join()

    def stop(self) -> None:
        """Let go of all, and remember it for the next controller."""
        self._stopped.set()

    def release(self) -> None:
        """Nothing of this process runs any more: no successor has to ask for it."""
        try:
            self._context.store.delete(KeyValueRecord(id=SERVING))
        except PersistenceError as error:
            LOG.info("the next controller will look for calls of this one: %s", error)

    def _note(self, predecessor: str) -> _Unsettled:
        """Find what is under way, and keep it until it has settled."""
        store, resources, sources = self._context.store, set[str](), set[str]()
        if (earlier := _read(store)) is not None:
            resources |= set(earlier.resources)
            sources |= set(earlier.sources)
        for record in _under_way(store):
            if _seize(store, record):
                resources.add(_resource(record))
                sources |= set(_sources(record))
        until = datetime.now(UTC) + timedelta(seconds=self._context.configuration.settle_seconds)
        unsettled = _Unsettled(predecessor, until.isoformat(), sorted(resources), sorted(sources))
        _write(store, KEY, json.dumps(asdict(unsettled)))
        return unsettled

    def _hold(self, unsettled: _Unsettled) -> None:
        has_begun = threading.Event()
        self._held = threading.Thread(
            target=self._keep, args=(unsettled, has_begun), name="calls of the last controller", daemon=True
        )
        self._held.start()
        has_begun.wait()

    def _keep(self, unsettled: _Unsettled, has_begun: threading.Event) -> None:
        reason = (
            f"a call of the controller before this one ({unsettled.host}), whose lease ran out, may still be under "
            "way; wait settle_seconds, or say that it has ended: cinderbox volumes settle"
        )
        LOG.warning("%s: %s", ", ".join(unsettled.resources) or "recovery", reason)
        with ExitStack() as held:
            held.enter_context(self._context.inflight.hold(*unsettled.resources, reason=reason))
            held.enter_context(self._context.source_locks.reading(*unsettled.sources))
            has_begun.set()
            # The clock may have been put back since; nothing takes longer from now on than it may take in all.
            end = time.monotonic() + min(unsettled.seconds_left, self._context.configuration.settle_seconds)
            while (left := end - time.monotonic()) > 0 and not _is_settled(self._context.store):
                if self._stopped.wait(min(left, _POLL_SECONDS)):
                    return
        self._forget()

    def _forget(self) -> None:
        try:
            self._context.store.delete(KeyValueRecord(id=KEY))
        except PersistenceError as error:
            LOG.info("that calls of the last controller have settled is not stored: %s", error)


def settle(store: RecordStore) -> list[str]:
    """For a person who knows that the calls of the last controller have ended: what is held no longer."""
    unsettled = _read(store)
    store.delete(KeyValueRecord(id=KEY))
    return [] if unsettled is None else unsettled.resources


def _last_serving(store: RecordStore, *, but: str) -> str:
    """Who served last and has not ended in order; empty for nobody but that one, whose restart this is."""
    record = store.get(KeyValueRecord, SERVING)
    found = (record.value if record is not None else "") or ""
    return "" if found == but or not but else found


def _write(store: RecordStore, key: str, value: str) -> None:
    present = store.get(KeyValueRecord, key)
    if present is None:
        store.create(KeyValueRecord(id=key, value=value))
    elif present.value != value:
        present.value = value
        store.update(present)


def _is_settled(store: RecordStore) -> bool:
    try:
        return store.get(KeyValueRecord, KEY) is None
    except PersistenceError:
        return False


def _read(store: RecordStore) -> _Unsettled | None:
    """What was under way, unless it must have settled."""
    record = store.get(KeyValueRecord, KEY)
    if record is None or not record.value:
        return None
    found = _Unsettled(**json.loads(record.value))
    return found if found.seconds_left > 0 else None


def _under_way(store: RecordStore) -> Iterator[Attempt | ConnectionRecord]:
    """What RPCs may be asked about; orphans and deletions that wait are for recovery, which waits as a whole."""
    for kind in KINDS:
        for record in lookups.iterate(store, kind):
            is_noted = isinstance(record, VolumeRecord) and UNDER_WAY in record.admin_metadata
            if is_noted or phase_of(record) in (Phase.CREATING, Phase.DELETING) or record.status in _CHANGING:
                yield record
    for connection in lookups.iterate(store, ConnectionRecord):
        if connection.attach_status != "attached":
            yield connection


def _seize(store: RecordStore, record: Attempt | ConnectionRecord) -> bool:
    """Write it once: a late write of the last controller's to it is refused then, in whichever store. Whether it is
    still there; one that was written meanwhile is written again."""
    current: Attempt | ConnectionRecord | None = record
    while current is not None:
        try:
            store.update(current)
        except (RevisionConflict, RecordNotFound):
            current = store.get(type(record), record.id)
        else:
            return True
    return False


def _resource(record: Attempt | ConnectionRecord) -> str:
    if isinstance(record, ConnectionRecord):
        return resource_of(VolumeRecord, record.volume_id)
    return resource_of(type(record), record.id)


def _sources(record: Attempt | ConnectionRecord) -> Iterator[str]:
    match record:
        case VolumeRecord():
            if record.source_volid:
                yield resource_of(VolumeRecord, record.source_volid)
            if record.snapshot_id:
                yield resource_of(SnapshotRecord, record.snapshot_id)
        case SnapshotRecord():
            yield resource_of(VolumeRecord, record.volume_id)
