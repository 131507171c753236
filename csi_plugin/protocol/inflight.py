"""One operation at a time per resource; a repeat of the running one shares its outcome, others wait for their turn."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import aborted

T = TypeVar("T")

_MOST_WAITING = 100
"""Calls that wait for one resource: each holds a thread."""


@dataclass(slots=True)
class Operation:
    """A mark on a resource, with what people ask who want to know why it is busy. Created by the thread that works."""

    key: str
    fingerprint: str
    reason: str = ""
    """Why the resource is busy, where no operation of this process runs."""
    started: float = field(default_factory=time.monotonic)
    thread: threading.Thread = field(default_factory=threading.current_thread)
    rpc: current_rpc.Rpc | None = field(default_factory=current_rpc.get)
    waiting: int = 0
    """Calls that wait for its end: repeats of it, and others for their turn."""
    turn: threading.Event = field(default_factory=threading.Event)
    """It is the one that runs."""
    ended: threading.Event = field(default_factory=threading.Event)
    give_way: Callable[[], None] | None = None
    """Lets it end soon: for one that nobody has asked for."""
    result: object = None
    error: BaseException | None = None

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.started


class InFlight:
    """The operations of one process, keyed by resource (``volume-name/pvc-1``, ``volume/<id>``...). Thread-safe.

    An operation runs in the thread of the RPC that brought it, to its end, even when that caller has given up: its mark
    ends with it, never with the caller. Those that wait have their turns in the order in which they came, so that a
    request that takes another back never comes before it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """An operation has ended."""
        self._operations: dict[str, Operation] = {}
        self._queues: dict[str, deque[Operation]] = {}
        """What waits for its turn; a key is here only while something does."""

    def run(self, key: str, fingerprint: str, action: Callable[[], T], *, wait_seconds: float | None) -> T:
        """Run ``action`` when nothing else runs on ``key``, and everything that came before has had its turn.

        Where the last that came is running and has the same fingerprint, its result is returned or its error raised
        instead. What does not come to its end, or to its turn, in time raises ABORTED (CSI spec, "Concurrency").
        ``wait_seconds``: until the caller gives up, which has its answer a little before; None: without a deadline.
        """
        mine = Operation(key, fingerprint)
        with self._lock:
            running = self._operations.get(key)
            if running is None:
                self._operations[key] = mine
            else:
                if running.waiting >= _MOST_WAITING:
                    raise aborted(f"{_MOST_WAITING} calls wait already for the operation on {key} that is running")
                running.waiting += 1
                is_repeat = running.fingerprint == fingerprint and key not in self._queues
                if not is_repeat:
                    self._queues.setdefault(key, deque()).append(mine)
        if running is not None:
            if is_repeat:
                return cast(T, self._await_end(running, wait_seconds))
            if running.give_way is not None:
                running.give_way()
            self._await_turn(mine, wait_seconds)
        try:
            mine.result = action()
            return mine.result
        except BaseException as error:
            mine.error = error
            raise
        finally:
            self._end(mine)

    @contextmanager
    def hold(
        self,
        *keys: str,
        wait_seconds: float = 0.0,
        give_way: Callable[[], None] | None = None,
        reason: str = "",
    ) -> Iterator[None]:
        """Mark several resources busy for the length of a block, or raise ABORTED when any is, after a time to wait.

        For operations on an object that other requests reach under another key (a snapshot's source volume). Who waits
        must hold nothing that the others wait for. What nobody has asked for has a ``give_way``, which is called when
        a request comes: from another thread, and perhaps more than once. ``reason``: why they are busy, where nothing
        runs.
        """
        mine = [Operation(key, "", reason, give_way=give_way) for key in dict.fromkeys(keys)]
        with self._changed:
            self._changed.wait_for(lambda: not self._busy_of(mine), wait_seconds)
            if busy := self._busy_of(mine):
                raise self._is_busy(busy)
            self._operations.update((operation.key, operation) for operation in mine)
        try:
            yield
        finally:
            for operation in mine:
                self._end(operation)

    def running(self) -> list[Operation]:
        """The marks that there are now, oldest first. An operation can have several, all of its thread."""
        with self._lock:
            return sorted(self._operations.values(), key=lambda operation: operation.started)

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until nothing runs; False when something still does after ``timeout_seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._operations, timeout_seconds)

    def _await_end(self, running: Operation, wait_seconds: float | None) -> object:
        has_ended = running.ended.wait(_time_to_wait(wait_seconds))
        with self._lock:
            running.waiting -= 1
        if not has_ended:
            raise self._is_busy(running)
        if running.error is not None:
            raise running.error
        return running.result

    def _await_turn(self, mine: Operation, wait_seconds: float | None) -> None:
        seconds = _time_to_wait(wait_seconds)
        if mine.turn.wait(current_rpc.WITHOUT_DEADLINE_SECONDS if seconds is None else seconds):
            return
        with self._lock:
            if mine.turn.is_set():
                return
            queue, running = self._queues[mine.key], self._operations[mine.key]
            queue.remove(mine)
            running.waiting -= 1
            if not queue:
                del self._queues[mine.key]
        raise self._is_busy(running)

    def _busy_of(self, wanted: list[Operation]) -> Operation | None:
        return next((self._operations[mark.key] for mark in wanted if mark.key in self._operations), None)

    def _end(self, operation: Operation) -> None:
        with self._changed:
            del self._operations[operation.key]
            if queue := self._queues.get(operation.key):
                following = self._operations[operation.key] = queue.popleft()
                following.started, following.waiting = time.monotonic(), len(queue)
                following.turn.set()
                if not queue:
                    del self._queues[operation.key]
            operation.ended.set()
            self._changed.notify_all()

    @staticmethod
    def _is_busy(running: Operation) -> Exception:
        if running.reason:
            return aborted(f"{running.key}: {running.reason}")
        return aborted(f"an operation on {running.key} has been running for {running.age_seconds:.0f} s")


def _time_to_wait(wait_seconds: float | None) -> float | None:
    # gRPC tells by centuries that a caller has no deadline.
    if wait_seconds is None or wait_seconds > threading.TIMEOUT_MAX / 2:
        return None
    return current_rpc.leave_time_to_answer(wait_seconds)
