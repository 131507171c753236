"""The options that a driver can be given: by definitions in oslo.config, and by what its source reads."""

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from cinder.volume import configuration, driver, manager
from cinder.volume.targets import spdknvmf
from oslo_config import cfg

from csi_plugin.storage.cinder.adaptations.hidden_options import MODULES_LOADED_BY_NAME
from csi_plugin.storage.cinder.driver_classes import driver_class

_COMMON: tuple[list[cfg.Opt], ...] = (
    manager.volume_backend_opts,
    driver.volume_opts,
    driver.iser_opts,
    driver.nvmeof_opts,
    driver.nvmet_opts,
    driver.scst_opts,
    driver.backup_opts,
    driver.image_opts,
    driver.fqdn_opts,
    spdknvmf.spdk_opts,
)
"""What Cinder registers for every backend, and the options of the targets that a driver loads by name."""


def definitions_of(volume_driver: str) -> dict[str, cfg.Opt]:
    """All options that a driver of this class path can be given, by name and by deprecated name."""
    cls = driver_class(volume_driver)
    found = [option for options in _COMMON for option in options]
    found += _options_of_modules(cls)
    if hasattr(cls, "get_driver_options"):
        found += cls.get_driver_options() or []
    by_old_name = {old: option for option in found for old in _old_names(option)}
    return by_old_name | {option.dest: option for option in found}


def without_value(volume_driver: str, options: Mapping[str, Any]) -> list[str]:
    """The driver's own options that have neither a default nor a value, by name."""
    common = {option.dest for found in _COMMON for option in found}
    definitions = definitions_of(volume_driver)
    own = {option.dest for option in definitions.values() if option.default in (None, "", [])} - common
    undefined = read_by_source(volume_driver) - set(definitions)
    return sorted(name for name in own | undefined if options.get(name) is None)


def modules_of(cls: type[Any]) -> list[ModuleType]:
    """The modules of a driver: those of its class and bases, and what they import from their own package."""
    pending = [sys.modules[base.__module__] for base in cls.__mro__]
    pending += [importlib.import_module(name) for name in MODULES_LOADED_BY_NAME.get(cls.__module__, ())]
    found: dict[str, ModuleType] = {}
    while pending:
        module = pending.pop()
        if module.__name__ in found or not _is_of_driver(module.__name__, cls):
            continue
        found[module.__name__] = module
        for value in vars(module).values():
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(name, str) and name in sys.modules:
                pending.append(sys.modules[name])
    return list(found.values())


@cache
def read_by_source(volume_driver: str) -> frozenset[str]:
    """Names that the modules of a driver's class and bases read from ``self.configuration``, registered or not."""
    names: set[str] = set()
    for cls in driver_class(volume_driver).__mro__:
        module = sys.modules[cls.__module__]
        if cls.__module__.startswith(("cinder.volume.driver", "csi_plugin.")) and module.__file__:
            names.update(_names_read(ast.parse(Path(module.__file__).read_text())))
    return frozenset(names - set(dir(configuration.BackendGroupConfiguration)))


def _options_of_modules(cls: type[Any]) -> list[cfg.Opt]:
    """Options in the lists that a driver's modules define, and those that they take from their neighbours."""
    found: list[cfg.Opt] = []
    for module in modules_of(cls):
        for value in vars(module).values():
            if isinstance(value, list | tuple) and value and all(isinstance(item, cfg.Opt) for item in value):
                found += value
    return found


def _is_of_driver(module_name: str, cls: type[Any]) -> bool:
    return module_name.startswith(("cinder.volume.drivers.", "cinder.volume.targets.")) or (
        module_name.rpartition(".")[0] == cls.__module__.rpartition(".")[0]
    )


def _old_names(option: cfg.Opt) -> Iterator[str]:
    for old in option.deprecated_opts:
        if old.name:
            yield old.name.replace("-", "_")
    if option.name != option.dest:
        yield option.name


def _names_read(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            function, name = node.func, node.args[-1] if len(node.args) == 1 else node.args[1]
            reads = isinstance(function, ast.Attribute) and function.attr in ("safe_get", "get")
            asks = isinstance(function, ast.Name) and function.id in ("getattr", "hasattr")
            if (
                (reads and _is_configuration(function.value))  # type: ignore[attr-defined]
                or (asks and _is_configuration(node.args[0]))
            ) and isinstance(name, ast.Constant):
                yield str(name.value)
        elif isinstance(node, ast.Attribute) and _is_configuration(node.value):
            yield node.attr


def _is_configuration(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "configuration"
