"""Cinder's driver classes: found by their paths, and asked what they have."""

import importlib
from collections.abc import Mapping
from typing import Any

from cinder.volume import driver as volume_driver
from cinder.volume import manager

from csi_plugin.storage.backend_configuration import DEFAULT_DRIVER
from csi_plugin.storage.cinder import eventlet_threads


def driver_class(path: str) -> type[Any]:
    """The class at a dotted path. Raises ValueError naming what is wrong with it."""
    module_name, _, class_name = current_path(path).rpartition(".")
    eventlet_threads.adapt_package(module_name)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"volume_driver {path!r} cannot be loaded: {error}") from error
    if not isinstance(found, type):
        raise ValueError(f"volume_driver {path!r} is not a class")
    eventlet_threads.use_threaded_loops()
    return found


def current_path(path: str) -> str:
    """Drivers that moved are found under their old paths, as by Cinder's volume manager."""
    current: str = manager.MAPPING.get(path, path)
    return current


def driver_path(options: Mapping[str, Any]) -> str:
    """The class path in the options of a backend, or Cinder's default."""
    return current_path(options.get("volume_driver") or DEFAULT_DRIVER)


def attribute(driver: Any, name: str) -> Any:
    """An attribute of a driver, or None. SolidFire's raises NotImplementedError for those that it does not have."""
    try:
        return getattr(driver, name, None)
    except NotImplementedError:
        return None


def implements(driver: Any, method: str) -> bool:
    """Whether a driver has its own version of a method; those of Cinder's base classes only raise or do nothing."""
    found = getattr(driver.__class__, method, None) or attribute(driver, method)
    return found is not None and getattr(found, "__module__", None) != volume_driver.__name__
