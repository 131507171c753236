"""Locks for programs that fork. What another thread holds at that moment, nobody would ever release in the child."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any


def call_in_children(method: Callable[[], None]) -> None:
    """Call a bound method at the start of every child that is forked from now on, as long as its object lives."""
    known = weakref.WeakMethod(method)
    os.register_at_fork(after_in_child=lambda: _call(known))


def _call(known: "weakref.WeakMethod[Any]") -> None:
    method = known()
    if method is not None:
        method()


class ProcessLock:
    """As threading.Lock, for a ``with`` statement in which nothing forks. It is free in a forked child."""

    def __init__(self) -> None:
        self._renew()
        call_in_children(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def lock_that_forks_wait_for() -> Any:
    """A threading.Lock in which nothing forks, and for which each fork waits: what it guards is whole in the child."""
    lock = threading.Lock()
    known = weakref.ref(lock)
    held: list[Any] = []

    def hold() -> None:
        found = known()
        if found is not None:
            found.acquire()
            held.append(found)

    def release() -> None:
        if held:
            held.pop().release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=release)
    return lock
