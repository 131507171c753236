"""The threads of recovery: what a crash, a failed attempt or an old backup of the metadata left behind.

Deletions that began are finished, connections that were being opened or closed are finished, and volumes
whose deletion waits are deleted when their last dependant is gone. Creations are another matter: what an interrupted
attempt created is never trusted, and removed only when the storage lists it under its Cinder name, the attempt ended
within the undo window, and nothing refers to it or uses it. Everything else is held, with a condition that says why
to a person.
"""

import threading
import time
from datetime import UTC, datetime
from typing import Any

from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.recovery.failures import logged
from csi_plugin.controller.recovery.predecessor import PredecessorCalls
from csi_plugin.controller.recovery.replay import replay
from csi_plugin.controller.recovery.review import review
from csi_plugin.controller.recovery.silent_nodes import forget_silent_nodes
from csi_plugin.controller.recovery_queue import Item
from csi_plugin.persistence.leases import LeaseTerm
from csi_plugin.persistence.records import ConnectionRecord, VolumeRecord

_BACKENDS_POLL_SECONDS = 2.0
"""Pause between two looks whether another backend has become ready."""


class Recovery:
    """Runs beside the RPCs, and takes the same in-flight marks as they do.

    One thread finds what there is to do, and each backend that has something has one that does it: a driver that hangs
    keeps only its own backend from being recovered.
    """

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._began = datetime.now(UTC)
        self._replayed: set[str] = set()
        self._nodes_due = 0.0
        self._stopped = threading.Event()
        self._predecessor = PredecessorCalls(context)
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
        self._predecessor.stop()
        self._context.recovery_queue.wake()

    def hold(self, term: LeaseTerm) -> None:
        """Leave alone what the controller before may still be doing; see PredecessorCalls. Before start()."""
        self._predecessor.hold(term)

    def release(self) -> None:
        """After stop(), when nothing runs any more: the next controller has nothing to leave alone of this one."""
        self._predecessor.release()

    def run_once(self) -> None:
        """Recover backends that have become ready, then review everything that is queued, to the end."""
        self._recover_backends()
        self._wait_until_done()
        self._review_all(self._context.recovery_queue.items())
        self._wait_until_done()

    def _wait_until_done(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._to_do)

    def _run(self) -> None:
        self._predecessor.wait()
        while not self._stopped.is_set():
            with logged("recovery"):
                self._recover_backends()
                self._review_all(self._context.recovery_queue.items(due=True))
            if time.monotonic() >= self._nodes_due:
                self._nodes_due = time.monotonic() + self._context.configuration.recovery_interval_seconds
                with logged("nodes"):
                    forget_silent_nodes(self._context)
            self._context.recovery_queue.wait(_BACKENDS_POLL_SECONDS)

    def _recover_backends(self) -> None:
        ready = [backend.name for backend in self._context.backends.ready()]
        self._replayed.intersection_update(ready)  # one that was removed may come back with what it had
        for name in ready:
            if name not in self._replayed:
                self._replayed.add(name)
                self._hand_over(name, None)

    def _review_all(self, items: list[Item]) -> None:
        queue = self._context.recovery_queue
        for kind, record_id in items:
            # Whatever comes of this review, the next one is not before then.
            queue.add(kind, record_id, after_seconds=self._context.configuration.recovery_interval_seconds)
            record: Any = self._context.store.get(kind, record_id)
            if isinstance(record, ConnectionRecord):
                record = self._context.store.get(VolumeRecord, record.volume_id)
            if record is None:
                queue.discard(kind, record_id)
            else:
                self._hand_over(record.backend, (kind, record_id))

    def _hand_over(self, backend_name: str, item: Item | None) -> None:
        """Leave it to the backend's thread, which is started if there is none."""
        with self._changed:
            if backend_name in self._to_do:
                self._to_do[backend_name][item] = None
                return
            self._to_do[backend_name] = {item: None}
        threading.Thread(
            target=self._work_off, args=(backend_name,), name=f"recovery of {backend_name}", daemon=True
        ).start()

    def _work_off(self, backend_name: str) -> None:
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
            with logged(f"{kind.KIND} {record_id}"):
                review(self._context, kind, record_id)

    def _replay_or_later(self, backend_name: str) -> None:
        with logged(f"recovery of backend {backend_name}"):
            try:
                replay(self._context, backend_name, began=self._began)
            except BaseException:
                self._replayed.discard(backend_name)
                raise
