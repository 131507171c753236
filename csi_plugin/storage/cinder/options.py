"""Configuration options: checked against the definitions that Cinder and each driver have in oslo.config."""

import ast
import difflib
import importlib
import logging
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from cinder.volume import configuration, driver, manager
from cinder.volume.targets import spdknvmf
from oslo_config import cfg

from csi_plugin.storage.cinder import driver_requirements

LOG = logging.getLogger(__name__)

DEFAULT_DRIVER = "cinder.volume.drivers.lvm.LVMVolumeDriver"

ACCEPTED_UNREGISTERED = {"rbd_keyring_conf"}
"""Options that a driver reads without defining them, beyond those found in its source: Cinder dropped this one's
definition as a risk to its services, and RBD still reads it."""

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

_LOADED_BY_NAME: dict[str, tuple[str, ...]] = {
    "cinder.volume.drivers.ibm.ibm_storage.ibm_storage": ("cinder.volume.drivers.ibm.ibm_storage.ds8k_proxy",),
    "cinder.volume.drivers.netapp.common": (
        "cinder.volume.drivers.netapp.dataontap.fc_cmode",
        "cinder.volume.drivers.netapp.dataontap.iscsi_cmode",
        "cinder.volume.drivers.netapp.dataontap.nfs_cmode",
        "cinder.volume.drivers.netapp.dataontap.nvme_cmode",
        "cinder.volume.drivers.nfs",
        "cinder.volume.drivers.remotefs",
    ),
}
"""Modules with options of their own that a driver's module loads at run time, by a name that is no import."""

_MISCONFIGURED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What a driver's constructor raises when it trips over an option that has no value."""

_REFERENCE = re.compile(r"\$(?:\$|(?P<name>[a-z_][a-z0-9_]*)|\{(?P<braced>[a-z_][a-z0-9_]*)\})", re.IGNORECASE)
"""``$name``, ``${name}``, and ``$$`` which stands for a dollar sign."""

_groups: set[str] = set()
"""Sections of Cinder's configuration that belong to backends of ours."""


class UnknownOption(ValueError):
    """An option that neither Cinder nor the driver defines."""


def set_global(options: Mapping[str, Any]) -> None:
    """Set options of [DEFAULT] (``name``) or of a group (``group.name``) for the whole process.

    Raises ValueError for an ill-typed value; an unknown option is logged as a warning, as Cinder would ignore it.
    """
    for key, value in options.items():
        group_name, _, name = key.rpartition(".")
        group = group_name.removeprefix("$").strip("[]") or None
        try:
            definition = cfg.CONF._get_opt_info(name, group)["opt"]
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError):
            LOG.warning("Unknown option %s%s", key, _nearest(name, cfg.CONF._opts))
            continue
        _set(definition, value, group, described_as=f"option {key}")


def new_driver(name: str, options: Mapping[str, Any], *, host: str, strict: bool, secret: Collection[str] = ()) -> Any:
    """A driver object, not started: ``options`` with ``volume_driver``, for the backend ``name``.

    Raises as backend_configuration does, driver_requirements.MissingRequirement, ValueError for a constructor that
    trips over its options, and whatever else the driver's constructor raises.
    """
    path = _driver_path(options)
    cls = driver_class(path)
    driver_configuration = backend_configuration(name, {**options, "volume_driver": path}, strict=strict, secret=secret)
    driver_requirements.check(path, cls, options)
    try:
        return cls(
            configuration=driver_configuration,
            host=host,
            cluster_name=None,
            is_vol_db_empty=False,  # the drivers that ask would otherwise clean up what they do not know
            active_backend_id=None,
        )
    except _MISCONFIGURED as error:
        unset = ", ".join(_without_value(path, options)) or "none"
        raise ValueError(
            f"driver {path} cannot be made ({type(error).__name__}: {error}); its own options without a value: {unset}"
        ) from error


def driver_class(volume_driver: str) -> type[Any]:
    """The class at a dotted path. Raises ValueError naming what is wrong with it."""
    module_name, _, class_name = current_path(volume_driver).rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"volume_driver {volume_driver!r} cannot be loaded: {error}") from error
    if not isinstance(found, type):
        raise ValueError(f"volume_driver {volume_driver!r} is not a class")
    return found


def backend_configuration(
    name: str, options: Mapping[str, Any], *, strict: bool, secret: Collection[str] = ()
) -> configuration.Configuration:
    """A driver's configuration: a section of its own, so that one backend's options never reach another.

    Every option is parsed by its definition. An ill-typed one raises ValueError; an unknown one raises UnknownOption
    when ``strict``, otherwise it is logged and handed to the driver as it is, as cinderlib did. ``secret``: options
    whose values no message quotes, besides those that are defined so.
    """
    _claim_group(name)
    definitions = definitions_of(options["volume_driver"])
    result = configuration.Configuration(list(definitions.values()), config_group=name)
    unknown = {}
    for key, value in options.items():
        definition = definitions.get(key)
        if definition is None:
            unknown[key] = value
        elif value is not None:
            value = _with_neighbours(value, options, name=key)
            described_as = f"option {key} of backend {name}"
            _set(definition, value, name, described_as=described_as, is_secret=key in secret)
    _accept_unregistered(name, unknown, options["volume_driver"], definitions, strict=strict)
    return result


def detach(driver_configuration: configuration.Configuration) -> None:
    """Let a driver go on with what it is configured with, whatever its backend's section is filled with next.

    Some drivers (NetApp, SolidFire) look the section up by the backend's name, so two drivers cannot have one each.
    """
    settings = driver_configuration.conf
    if not isinstance(settings.backend_conf, _Kept):
        settings.backend_conf = _Kept(settings.backend_conf)


class _Kept:
    """The values that a section had at one time; read as oslo.config's sections are."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._values: dict[str, Any] = {}
        for name in list(section):
            # A reference that cannot be resolved fails when the driver reads it, here as there.
            with suppress(cfg.Error, ValueError):
                self._values[name] = section[name]

    def __getattr__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        raise cfg.NoSuchOptError(name)


def refill(name: str, options: Mapping[str, Any]) -> None:
    """Fill a backend's section again with options that it had before, for whoever looks it up by its name."""
    backend_configuration(name, {**options, "volume_driver": _driver_path(options)}, strict=False)


def forget(name: str) -> None:
    """Drop a backend's options. Its section stays, empty: oslo.config has no way to remove one."""
    if name in _groups:
        _clear(name)


def definitions_of(volume_driver: str) -> dict[str, cfg.Opt]:
    """All options that a driver of this class path can be given, by name and by deprecated name."""
    cls = driver_class(volume_driver)
    found = [option for options in _COMMON for option in options]
    found += _options_of_modules(cls)
    if hasattr(cls, "get_driver_options"):
        found += cls.get_driver_options() or []
    by_old_name = {old: option for option in found for old in _old_names(option)}
    return by_old_name | {option.dest: option for option in found}


def _without_value(volume_driver: str, options: Mapping[str, Any]) -> list[str]:
    """The driver's own options that have neither a default nor a value, by name."""
    common = {option.dest for found in _COMMON for option in found}
    definitions = definitions_of(volume_driver)
    own = {option.dest for option in definitions.values() if option.default in (None, "", [])} - common
    undefined = read_by_source(volume_driver) - set(definitions)
    return sorted(name for name in own | undefined if options.get(name) is None)


def _claim_group(name: str) -> None:
    """Make the backend's section, empty. Raises ValueError when Cinder has a section of that name."""
    if name not in _groups:
        if name in cfg.CONF._groups or name in cfg.CONF._opts or hasattr(cfg.ConfigOpts, name):
            raise ValueError(
                f"volume_backend_name {name!r} is taken: Cinder's configuration has a section of that name"
            )
        cfg.CONF.register_group(cfg.OptGroup(name))
        _groups.add(name)
        # NetApp looks its section up among those of the configuration files.
        cfg.CONF.list_all_sections = lambda: sorted(_groups)
    _clear(name)


def _clear(group: str) -> None:
    for key in list(cfg.CONF._groups[group]._opts):
        cfg.CONF.clear_override(key, group)


def _set(definition: cfg.Opt, value: Any, group: str | None, *, described_as: str, is_secret: bool = False) -> None:
    if definition.multi and not isinstance(value, list | tuple):
        value = [value]
    try:
        cfg.CONF.set_override(definition.name, _as_text(value), group)
    except (ValueError, TypeError) as error:
        if definition.secret or is_secret:  # the value, and an error that quotes it, must not reach a log
            raise ValueError(f"{described_as}: not a valid {definition.type}") from None
        raise ValueError(f"{described_as}: {value!r} is not a valid {definition.type}: {error}") from error


def _with_neighbours(value: Any, options: Mapping[str, Any], *, name: str) -> Any:
    """Text with its references to other options of the same backend replaced.

    oslo.config looks such references up in a configuration file's own section, and for values that are set in another
    way only in [DEFAULT]; what is not found here is left to that.
    """
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        other = match["name"] or match["braced"]
        if other is None or other == name or options.get(other) is None:
            return match[0]
        return str(_with_neighbours(options[other], {**options, name: None}, name=other))

    return _REFERENCE.sub(replace, value)


def _as_text(value: Any) -> Any:
    """oslo.config parses text by an option's type; JSON and YAML hand over numbers and booleans already parsed."""
    return str(value) if isinstance(value, bool | int | float) else value


def _old_names(option: cfg.Opt) -> Iterator[str]:
    for old in option.deprecated_opts:
        if old.name:
            yield old.name.replace("-", "_")
    if option.name != option.dest:
        yield option.name


def _options_of_modules(cls: type[Any]) -> list[cfg.Opt]:
    """Options in the lists that a driver's modules define, and those that they take from their neighbours."""
    found: list[cfg.Opt] = []
    for module in modules_of(cls):
        for value in vars(module).values():
            if isinstance(value, list | tuple) and value and all(isinstance(item, cfg.Opt) for item in value):
                found += value
    return found


def modules_of(cls: type[Any]) -> list[ModuleType]:
    """The modules of a driver: those of its class and bases, and what they import from their own package."""
    pending = [sys.modules[base.__module__] for base in cls.__mro__]
    pending += [importlib.import_module(name) for name in _LOADED_BY_NAME.get(cls.__module__, ())]
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


def _is_of_driver(module_name: str, cls: type[Any]) -> bool:
    return module_name.startswith(("cinder.volume.drivers.", "cinder.volume.targets.")) or (
        module_name.rpartition(".")[0] == cls.__module__.rpartition(".")[0]
    )


def _accept_unregistered(
    backend: str, unknown: Mapping[str, Any], volume_driver: str, definitions: Mapping[str, cfg.Opt], *, strict: bool
) -> None:
    """Options without a definition: known if the driver's source reads them, otherwise a mistake."""
    read = read_by_source(volume_driver) if unknown else frozenset()
    for key, value in unknown.items():
        if key not in read and key not in ACCEPTED_UNREGISTERED:
            message = f"unknown option {key} of backend {backend}{_nearest(key, definitions)}"
            if strict:
                raise UnknownOption(message)
            LOG.warning(message)
        elif not isinstance(value, str | int | float | bool | None):
            raise ValueError(f"option {key} of backend {backend} must be text or a number, not {value!r}")
        for group in (configuration.SHARED_CONF_GROUP, backend):
            if key not in cfg.CONF._groups[group]._opts:
                cfg.CONF.register_opt(cfg.Opt(key, type=_as_it_is), group=group)
        cfg.CONF.set_override(key, value, backend)


def _as_it_is(value: Any) -> Any:
    return value


@cache
def read_by_source(volume_driver: str) -> frozenset[str]:
    """Names that the modules of a driver's class and bases read from ``self.configuration``, registered or not."""
    names: set[str] = set()
    for cls in driver_class(volume_driver).__mro__:
        module = sys.modules[cls.__module__]
        if cls.__module__.startswith(("cinder.volume.driver", "csi_plugin.")) and module.__file__:
            names.update(_names_read(ast.parse(Path(module.__file__).read_text())))
    return frozenset(names - set(dir(configuration.BackendGroupConfiguration)))


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


def _driver_path(options: Mapping[str, Any]) -> str:
    return current_path(options.get("volume_driver") or DEFAULT_DRIVER)


def current_path(volume_driver: str) -> str:
    """Drivers that moved are found under their old paths, as by Cinder's volume manager."""
    path: str = manager.MAPPING.get(volume_driver, volume_driver)
    return path


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
