"""What Cinder's drivers find when they reach for Cinder's database.

Cinder's database layer is the module ``cinder.db.api``; its versioned objects and its drivers call functions of it.
Each function is wrapped once, and asks at every call who answers: a ``StoreDatabase`` over the persistence plugin's
records (memory, custom resources, third-party plugins), or Cinder's own function (db and memory_db).
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import csi_plugin.storage.cinder  # noqa: F401  # before anything else of Cinder

# isort: split
import cinder.db
from cinder import exception
from cinder.db import api

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.database.store_database import StoreDatabase

_lock = threading.Lock()
_installed = False
_active: StoreDatabase | None = None
_planned: dict[str, StoreDatabase] = {}


def use_store(store: RecordStore) -> None:
    """From now on, records of this store answer Cinder's database calls, for the whole process."""
    global _active
    _install()
    _active = StoreDatabase(store)


def use_cinder_layer() -> None:
    """From now on, Cinder's own layer answers (a plugin has pointed it at its database)."""
    global _active
    _install()
    _active = None


@contextmanager
def planned_type(type_id: str, *, extra_specs: dict[str, str], qos_specs: dict[str, str]) -> Iterator[None]:
    """In the block, drivers find a volume type of this id that no record has: the one that a volume is given.

    In Cinder it is a row of its own before its driver's ``retype`` is called, and drivers look for its QoS specs.
    """
    store = MemoryPersistence()
    store.create(VolumeRecord(id=type_id, extra_specs=extra_specs, qos_specs=qos_specs))
    _planned[type_id] = StoreDatabase(store)
    try:
        yield
    finally:
        del _planned[type_id]


def _install() -> None:
    global _installed
    with _lock:
        if _installed:
            return
        for name, function in list(vars(api).items()):
            if _takes_context(function):
                setattr(api, name, _redirect(name, function))
        # One driver (vmstore) calls the package instead of its module, which has none of the functions.
        cinder.db.__getattr__ = lambda name: getattr(api, name)
        _installed = True


def _takes_context(function: Any) -> bool:
    if not inspect.isfunction(function) or function.__module__ != api.__name__ or function.__name__.startswith("_"):
        return False
    parameters = list(inspect.signature(function).parameters)
    return parameters[:1] == ["context"] and function.__name__ not in ("is_admin_context", "is_user_context")


def _redirect(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def function(*arguments: Any, **keywords: Any) -> Any:
        active = _with_planned_type(arguments) or _active
        if active is None:
            return original(*arguments, **keywords)
        answer = getattr(active, name, None)
        if answer is None:
            raise exception.ProgrammingError(
                reason=f"Cinder's database function {name} needs the persistence plugin 'db' or 'memory_db'"
            )
        return answer(*arguments, **keywords)

    return function


def _with_planned_type(arguments: tuple[Any, ...]) -> StoreDatabase | None:
    """Who answers a call that names a planned type: functions take an id after the context, some after a model."""
    named = (argument for argument in arguments[1:3] if isinstance(argument, str) and argument in _planned)
    return next((_planned[type_id] for type_id in named), None)
