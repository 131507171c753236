"""Configuration options: checked against the definitions that Cinder and each driver register with oslo.config."""

import ast
import difflib
import importlib
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cinder.volume import configuration, driver
from cinder.volume import manager as _manager_options  # noqa: F401 - registers options that drivers read
from oslo_config import cfg, types

LOG = logging.getLogger(__name__)

# Options that a driver reads without registering them, beyond those found in its source.
ACCEPTED_UNREGISTERED = {"rbd_keyring_conf"}


class UnknownOption(ValueError):
    """An option that neither Cinder nor the driver defines."""


def set_global(options: Mapping[str, Any]) -> None:
    """Set options of [DEFAULT] (``name``) or of a group (``group.name``) for the whole process.

    Raises ValueError for an ill-typed value; an unknown option is logged as a warning, as Cinder would ignore it.
    """
    for key, value in options.items():
        group, _, name = key.rpartition(".")
        group = group.removeprefix("$").strip("[]") or None
        try:
            cfg.CONF.set_override(name, _as_text(value), group)
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError):
            LOG.warning("Unknown option %s%s", key, _nearest(name, _names(cfg.CONF._opts)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"option {key}: {error}") from error


def driver_class(volume_driver: str) -> type[Any]:
    """The class at a dotted path. Raises ValueError naming what is wrong with it."""
    module_name, _, class_name = volume_driver.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"volume_driver {volume_driver!r} cannot be loaded: {error}") from error
    if not isinstance(found, type):
        raise ValueError(f"volume_driver {volume_driver!r} is not a class")
    return found


def backend_configuration(name: str, options: Mapping[str, Any], *, strict: bool) -> configuration.Configuration:
    """A driver's configuration: a group of its own, so that one backend's options never reach another.

    Every option is parsed by its definition. An ill-typed one raises ValueError; an unknown one raises UnknownOption
    when ``strict``, otherwise it is logged and handed to the driver as it is, as cinderlib did.
    """
    group = name
    cfg.CONF.register_group(cfg.OptGroup(group))
    definitions = definitions_of(options["volume_driver"])
    result = configuration.Configuration(list(definitions.values()), config_group=group)
    unknown = {}
    for key, value in options.items():
        definition = definitions.get(key)
        if definition is None:
            unknown[key] = value
            continue
        if value is None:
            continue
        try:
            cfg.CONF.set_override(definition.dest, _as_text(value), group)
        except (ValueError, TypeError) as error:
            wanted = definition.type if isinstance(definition.type, types.ConfigType) else type(definition).__name__
            raise ValueError(f"option {key} of backend {name}: {value!r} is not a valid {wanted}: {error}") from error
    _accept_unregistered(name, unknown, options["volume_driver"], definitions, group, strict=strict)
    return result


def definitions_of(volume_driver: str) -> dict[str, cfg.Opt]:
    """All options that a driver of this class path can be given, by name and by deprecated name."""
    cls = driver_class(volume_driver)
    options: list[cfg.Opt] = [*driver.volume_opts, *driver.iser_opts, *driver.nvmet_opts, *driver.scst_opts]
    options += driver.image_opts + driver.fqdn_opts + driver.backup_opts if hasattr(driver, "fqdn_opts") else []
    options += [cfg.StrOpt("volume_driver"), cfg.StrOpt("volume_backend_name")]
    shared = cfg.CONF._groups.get(configuration.SHARED_CONF_GROUP)
    if shared is not None:
        options += [info["opt"] for info in shared._opts.values()]
    if hasattr(cls, "get_driver_options"):
        options += cls.get_driver_options() or []
    return {name: option for option in options for name in _option_names(option)}


def _option_names(option: cfg.Opt) -> Iterable[str]:
    yield option.dest
    if option.name != option.dest:
        yield option.name
    for old in option.deprecated_opts:
        if old.name:
            yield old.name.replace("-", "_")


def _accept_unregistered(
    backend: str,
    unknown: Mapping[str, Any],
    volume_driver: str,
    definitions: Mapping[str, cfg.Opt],
    group: str,
    *,
    strict: bool,
) -> None:
    """Options without a definition: known if the driver's source reads them, otherwise a mistake."""
    read = read_by_source(volume_driver)
    for key, value in unknown.items():
        if key not in read and key not in ACCEPTED_UNREGISTERED:
            message = f"unknown option {key} of backend {backend}{_nearest(key, definitions)}"
            if strict:
                raise UnknownOption(message)
            LOG.warning(message)
        elif not isinstance(value, str | int | float | bool):
            raise ValueError(f"option {key} of backend {backend} must be a string or number, not {value!r}")
        kind: type[cfg.Opt] = cfg.StrOpt if isinstance(value, str) else cfg.Opt
        cfg.CONF.register_opt(kind(key), group=configuration.SHARED_CONF_GROUP)
        cfg.CONF.register_opt(kind(key), group=group)
        cfg.CONF.set_override(key, value, group)


@cache
def read_by_source(volume_driver: str) -> frozenset[str]:
    """Names that the driver's modules pass to ``configuration.safe_get``: options it reads, registered or not."""
    names: set[str] = set()
    for cls in driver_class(volume_driver).__mro__:
        module = importlib.import_module(cls.__module__)
        if not (cls.__module__.startswith(("cinder.volume.drivers.", "csi_plugin.")) and module.__file__):
            continue
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"safe_get", "get"}
                and isinstance(node.func.value, ast.Attribute)
                and node.func.value.attr == "configuration"
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                names.add(node.args[0].value)
    return frozenset(names)


def _as_text(value: Any) -> Any:
    """oslo.config parses text by an option's type; JSON and YAML hand over numbers and booleans already parsed."""
    return str(value) if isinstance(value, bool | int | float) else value


def _names(definitions: Mapping[str, Any]) -> list[str]:
    return list(definitions)


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
