"""One operation at a time per resource; a repeat of a running request waits for it and shares its outcome."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import aborted

T = TypeVar("T")

_MOST_WAITING = 100
"""Repeats of one request that wait for it: each holds a thread."""


@dataclass(slots=True)
class Operation:
    """A mark on a resource, with what people ask who want to know why it is busy. Created by the thread that works."""

    key: str
    fingerprint: str
    started: float = field(default_factory=time.monotonic)
    thread: threading.Thread = field(default_factory=threading.current_thread)
    rpc: current_rpc.Rpc | None = field(default_factory=current_rpc.get)
    waiting: int = 0
    """Repeats that wait for its end."""
    ended: threading.Event = field(default_factory=threading.Event)
    result: object = None
    error: BaseException | None = None

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.started


class InFlight:
    """The operations of one process, keyed by resource (``volume-name/pvc-1``, ``volume/<id>``...). Thread-safe.

    An operation runs in the thread of the RPC that brought it, to its end, even when that caller has given up: its mark
    ends with it, never with the caller.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._operations: dict[str, Operation] = {}

    def run(self, key: str, fingerprint: str, action: Callable[[], T], *, wait_seconds: float | None) -> T:
        """Run ``action`` unless an operation on ``key`` is running.

        A running one with the same fingerprint is awaited and its result returned or its error raised; one with another
        fingerprint, or that does not end in time, raises ABORTED (CSI spec, "Concurrency"). ``wait_seconds``: until
        the caller gives up, which has its answer a little before; None: without end.
        """
        with self._lock:
            running = self._operations.get(key)
            if running is None:
                mine = self._operations[key] = Operation(key, fingerprint)
        if running is not None:
            return cast(T, self._await(running, fingerprint, wait_seconds))
        try:
            mine.result = action()
            return mine.result
        except BaseException as error:
            mine.error = error
            raise
        finally:
            self._end(mine)

    @contextmanager
    def hold(self, *keys: str) -> Iterator[None]:
        """Mark several resources busy for the length of a block, or raise ABORTED when any is.

        For operations on an object that other requests reach under another key (a snapshot's source volume).
        """
        mine = [Operation(key, "") for key in dict.fromkeys(keys)]
        with self._lock:
            for operation in mine:
                if busy := self._operations.get(operation.key):
                    raise self._busy(busy)
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
        with self._idle:
            return self._idle.wait_for(lambda: not self._operations, timeout_seconds)

    def _await(self, running: Operation, fingerprint: str, wait_seconds: float | None) -> object:
        if running.fingerprint != fingerprint:
            raise self._busy(running)
        if wait_seconds is not None:
            # gRPC tells by centuries that a caller has no deadline.
            is_forever = wait_seconds > threading.TIMEOUT_MAX / 2
            wait_seconds = None if is_forever else current_rpc.leave_time_to_answer(wait_seconds)
        with self._lock:
            if running.waiting >= _MOST_WAITING:
                raise aborted(f"{_MOST_WAITING} calls wait already for the operation on {running.key} that is running")
            running.waiting += 1
        try:
            has_ended = running.ended.wait(wait_seconds)
        finally:
            with self._lock:
                running.waiting -= 1
        if not has_ended:
            raise self._busy(running)
        if running.error is not None:
            raise running.error
        return running.result

    def _end(self, operation: Operation) -> None:
        with self._idle:
            del self._operations[operation.key]
            operation.ended.set()
            if not self._operations:
                self._idle.notify_all()

    @staticmethod
    def _busy(running: Operation) -> Exception:
        return aborted(f"an operation on {running.key} has been running for {running.age_seconds:.0f} s")
