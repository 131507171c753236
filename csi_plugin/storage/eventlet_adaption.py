"""Drivers that use eventlet by themselves, given real threads instead.

Cinder 29 still imports eventlet; most drivers only ever meet it through oslo libraries, which follow the threading
backend. The few that name it are listed here with what replaces it; a test reads every driver for unlisted uses.
"""

import threading
from types import ModuleType
from typing import Any

ADAPTED: dict[str, str] = {
    "cinder.volume.drivers.ibm.ibm_storage.ds8k_proxy": "eventlet.spawn never runs without a hub: real threads",
    "cinder.volume.drivers.netapp.dataontap.client.api": "a green semaphore deadlocks real threads",
    "cinder.volume.drivers.datera.datera_iscsi": "eventlet.green.threading: its locks are green",
    "cinder.zonemanager.drivers.cisco.cisco_fc_san_lookup_service": "greenthread.sleep: time.sleep",
    "cinder.zonemanager.drivers.cisco.cisco_fc_zone_client_cli": "greenthread.sleep: time.sleep",
    "cinder.zonemanager.drivers.brocade.brcd_fc_zone_client_cli": "greenthread.sleep: time.sleep",
    "cinder.ssh_utils": "a pool of connections: a queue of the standard library",
    "cinder.utils": "only what drivers do not call, or what follows the threading backend",
}


class _ThreadedPool:
    """What ``eventlet.pools.Pool`` offers, for real threads: items are made on demand up to ``max_size``."""

    def __init__(self, min_size: int = 0, max_size: int = 4, order_as_stack: bool = False, create: Any = None) -> None:
        self.min_size = min_size
        self.max_size = max_size
        self.order_as_stack = order_as_stack
        self.current_size = 0
        self.free_items: list[Any] = []
        self._changed = threading.Condition()
        if create is not None:
            self.create = create
        for _ in range(min_size):
            self.current_size += 1
            self.free_items.append(self.create())

    def create(self) -> Any:
        raise NotImplementedError("a pool's subclass makes its items")

    def item(self) -> Any:
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

    def free(self) -> int:
        """How many items could be had without waiting."""
        return len(self.free_items) + self.max_size - self.current_size

    def waiting(self) -> int:
        return 0


class _PooledItem:
    def __init__(self, pool: _ThreadedPool) -> None:
        self._pool = pool

    def __enter__(self) -> Any:
        self._item = self._pool.get()
        return self._item

    def __exit__(self, *error: object) -> None:
        self._pool.put(self._item)


class _Thread(threading.Thread):
    """What ``eventlet.spawn`` returns, as far as drivers use it."""

    def wait(self) -> None:
        self.join()


def _spawn(function: Any, *args: Any, **kwargs: Any) -> _Thread:
    thread = _Thread(target=function, args=args, kwargs=kwargs, daemon=True, name=f"driver-{function.__name__}")
    thread.start()
    return thread


def install() -> None:
    """Put real threads behind the parts of eventlet that drivers name. Before any driver is imported; repeatable."""
    import time

    import eventlet
    import eventlet.green
    import eventlet.greenthread
    import eventlet.pools
    import eventlet.semaphore

    eventlet.spawn = _spawn
    eventlet.spawn_n = _spawn
    eventlet.sleep = time.sleep
    eventlet.greenthread.spawn = _spawn
    eventlet.greenthread.sleep = time.sleep
    eventlet.Semaphore = eventlet.semaphore.Semaphore = threading.Semaphore
    eventlet.semaphore.BoundedSemaphore = threading.BoundedSemaphore
    eventlet.pools.Pool = _ThreadedPool
    _use_real_threading(eventlet.green)


def _use_real_threading(green: ModuleType) -> None:
    import sys

    green.threading = threading  # type: ignore[attr-defined]
    sys.modules["eventlet.green.threading"] = threading
