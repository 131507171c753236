"""Drivers that use eventlet by themselves, given real threads instead.

Cinder 29 runs on threads, but a few of its modules still call eventlet by name: NetApp takes a green semaphore, which
deadlocks real threads, and DS8K starts work with ``eventlet.spawn``, which never runs without a hub. A module of
``ADAPTED``, or of a driver from elsewhere, that imports eventlet gets a stand-in with threads behind those names; a
program that uses eventlet itself has its own as it is. A test reads the sources of all drivers and of what they share,
and fails for a use that is not in ``ADAPTED``.

A program may also have loaded oslo.service before us, whose default is eventlet. Then Cinder's and os-brick's modules
get its looping calls for threads.
"""

import builtins
import importlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from oslo_service import backend as service_backend

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


_ROOT = "eventlet"
_packages: set[str] = set()
"""Packages of drivers from elsewhere."""
_stand_ins: dict[str, ModuleType] = {}


class _StandIn(ModuleType):
    """A module of eventlet's as drivers see it."""

    def __getattr__(self, name: str) -> Any:
        path = f"{self.__name__}.{name}"
        if path in REPLACEMENTS:
            return REPLACEMENTS[path]
        value = getattr(importlib.import_module(self.__name__), name)
        return _stand_in(value.__name__) if isinstance(value, ModuleType) and _is_eventlets(value.__name__) else value


def _stand_in(name: str) -> Any:
    return REPLACEMENTS.get(name) or _stand_ins.setdefault(name, _StandIn(name))


def _is_eventlets(module_name: str) -> bool:
    return module_name.partition(".")[0] == _ROOT


def _import(
    name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
) -> Any:
    """``__import__`` as adapted modules have it."""
    found = builtins.__import__(name, globals, locals, fromlist or (), level)
    if level or not _is_eventlets(name):
        return found
    for submodule in fromlist or ():
        if f"{name}.{submodule}" not in REPLACEMENTS:
            getattr(_stand_in(name), submodule)
    return _stand_in(name if fromlist else _ROOT)


_BUILTINS = {**vars(builtins), "__import__": _import}


class _Finder(MetaPathFinder, Loader):
    """Loads adapted modules with an ``__import__`` of their own."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ADAPTED and fullname.partition(".")[0] not in _packages:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec is not None:
                return _adapted(spec)
        return None


class _Loader(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = _BUILTINS
        self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _adapted(spec: ModuleSpec) -> ModuleSpec:
    if hasattr(spec.loader, "exec_module"):
        spec.loader = _Loader(spec.loader)
    return spec


def install() -> None:
    """Adapt the modules of Cinder that name eventlet, those that are loaded already as well. Repeatable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in ADAPTED:
        if name in sys.modules:
            _adapt_loaded(sys.modules[name])
    use_threaded_loops()


def adapt_package(name: str) -> None:
    """Adapt the modules of a driver from elsewhere, before it is imported: those of its package."""
    if name.partition(".")[0] not in ("cinder", "csi_plugin"):
        _packages.add(name.partition(".")[0])


def _adapt_loaded(module: ModuleType) -> None:
    originals = {id(original): replacement for original, replacement in _originals()}
    for name, value in list(vars(module).items()):
        if isinstance(value, ModuleType) and not isinstance(value, _StandIn) and _is_eventlets(value.__name__):
            setattr(module, name, _stand_in(value.__name__))
        elif id(value) in originals:
            setattr(module, name, originals[id(value)])
        elif isinstance(value, type) and any(id(base) in originals for base in value.__bases__):
            value.__bases__ = tuple(originals.get(id(base), base) for base in value.__bases__)


def _originals() -> list[tuple[Any, Any]]:
    return [
        (getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]), replacement)
        for name, replacement in REPLACEMENTS.items()
    ]


def use_threaded_loops() -> None:
    """Give the modules that are loaded looping calls for threads, where oslo.service has chosen eventlet's."""
    if service_backend.get_backend_type() is not service_backend.BackendType.EVENTLET:
        return
    importlib.import_module("os_brick.initiator.connectors.fibre_channel")
    real = importlib.import_module("oslo_service.loopingcall")
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in {"cinder", "os_brick", *_packages} and vars(module).get("loopingcall") is real:
            vars(module)["loopingcall"] = _threaded_loops()


def _threaded_loops() -> ModuleType:
    name = "oslo_service.loopingcall"
    if name not in _stand_ins:
        backend = importlib.import_module("oslo_service.backend._threading").ThreadingBackend
        loops = ModuleType(name)
        vars(loops).update(backend.get_service_components())
        _stand_ins[name] = loops
    return _stand_ins[name]
