"""Drivers that use eventlet by themselves, given real threads instead.

Cinder 29 runs on threads, but a few of its modules still call eventlet by name: NetApp takes a green semaphore, which
deadlocks real threads, and DS8K starts work with ``eventlet.spawn``, which never runs without a hub. ``install`` puts
threads behind those names, before any driver is imported. A test reads the sources of all drivers and of what they
share, and fails for a use that is not in ``ADAPTED``.

This changes eventlet for the whole process: a program cannot use it for itself and this library together.
"""

import importlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ADAPTED: dict[str, set[str]] = {
    "cinder.image.image_utils": {"eventlet.tpool.execute", "eventlet.tpool.Proxy"},
    "cinder.ssh_utils": {"eventlet.pools.Pool"},
    "cinder.utils": {"eventlet.Semaphore", "eventlet.tpool.Proxy"},
    "cinder.volume.drivers.datera.datera_iscsi": {"eventlet.green.threading"},
    "cinder.volume.drivers.ibm.ibm_storage.ds8k_proxy": {"eventlet.spawn"},
    "cinder.volume.drivers.netapp.dataontap.client.api": {"eventlet.semaphore.Semaphore"},
    "cinder.zonemanager.drivers.brocade.brcd_fc_zone_client_cli": {"eventlet.greenthread.sleep"},
    "cinder.zonemanager.drivers.cisco.cisco_fc_san_lookup_service": {"eventlet.greenthread.sleep"},
    "cinder.zonemanager.drivers.cisco.cisco_fc_zone_client_cli": {"eventlet.greenthread.sleep"},
}
"""Modules that name eventlet, and what of it they use."""


class ThreadedPool:
    """What ``eventlet.pools.Pool`` offers to its subclasses, for real threads: items made on demand up to a number."""

    def __init__(self, min_size: int = 0, max_size: int = 4, order_as_stack: bool = False, create: Any = None) -> None:
        self.min_size = min_size
        self.max_size = max_size
        self.order_as_stack = order_as_stack
        self.current_size = 0
        self.free_items: list[Any] = []
        self._changed = threading.Condition()
        if create is not None:
            self.create = create  # type: ignore[method-assign]
        for _ in range(min_size):
            self.current_size += 1
            self.free_items.append(self.create())

    def create(self) -> Any:
        raise NotImplementedError("a pool's subclass makes its items")

    def item(self) -> "_PooledItem":
        """A context manager that takes an item and puts it back."""
        return _PooledItem(self)

    def get(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self.free_items or self.current_size < self.max_size)
            if self.free_items:
                return self.free_items.pop(-1 if self.order_as_stack else 0)
            self.current_size += 1
        try:
            return self.create()
        except BaseException:
            with self._changed:
                self.current_size -= 1
                self._changed.notify()
            raise

    def put(self, item: Any) -> None:
        with self._changed:
            if self.current_size > self.max_size:
                self.current_size -= 1
            else:
                self.free_items.append(item)
            self._changed.notify()

    def resize(self, new_size: int) -> None:
        with self._changed:
            self.max_size = new_size
            self._changed.notify_all()

    def free(self) -> int:
        """How many items could be had without waiting."""
        return len(self.free_items) + self.max_size - self.current_size

    def waiting(self) -> int:
        """How many wait for an item: nobody in eventlet's sense, as nothing here is green."""
        return 0


class _PooledItem:
    def __init__(self, pool: ThreadedPool) -> None:
        self._pool = pool

    def __enter__(self) -> Any:
        self._item = self._pool.get()
        return self._item

    def __exit__(self, *error: object) -> None:
        self._pool.put(self._item)


class _Thread(threading.Thread):
    """What ``eventlet.spawn`` returns: ``wait`` gives the function's result, or raises what it raised."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        super().__init__(daemon=True, name=f"driver-{getattr(function, '__name__', 'call')}")
        self._function, self._arguments, self._keywords = function, arguments, keywords
        self._outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run(self) -> None:
        try:
            self._outcome.put((self._function(*self._arguments, **self._keywords), None))
        except BaseException as error:
            self._outcome.put((None, error))
            raise

    def wait(self) -> Any:
        result, error = self._outcome.get()
        self._outcome.put((result, error))
        if error is not None:
            raise error
        return result


def spawn(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> _Thread:
    """``eventlet.spawn`` as a thread, which does not keep the program alive."""
    thread = _Thread(function, arguments, keywords)
    thread.start()
    return thread


def _execute(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """``tpool.execute`` takes work off the hub's thread; without a hub it can stay where it is."""
    return function(*arguments, **keywords)


def _proxy(obj: Any, *_options: Any, **_more: Any) -> Any:
    """``tpool.Proxy``, for the same reason the object itself."""
    return obj


REPLACEMENTS: dict[str, Any] = {
    "eventlet.Semaphore": threading.Semaphore,
    "eventlet.green.threading": threading,
    "eventlet.greenthread.sleep": time.sleep,
    "eventlet.greenthread.spawn": spawn,
    "eventlet.pools.Pool": ThreadedPool,
    "eventlet.semaphore.BoundedSemaphore": threading.BoundedSemaphore,
    "eventlet.semaphore.Semaphore": threading.Semaphore,
    "eventlet.sleep": time.sleep,
    "eventlet.spawn": spawn,
    "eventlet.spawn_n": spawn,
    "eventlet.tpool.Proxy": _proxy,
    "eventlet.tpool.execute": _execute,
}


def install() -> None:
    """Put threads behind the parts of eventlet that drivers name. Before any driver is imported; repeatable."""
    for name, replacement in REPLACEMENTS.items():
        module_name, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module_name), attribute, replacement)
    sys.modules["eventlet.green.threading"] = threading
