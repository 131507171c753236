"""Configuration options: checked against the definitions that Cinder and each driver have in oslo.config."""

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from cinder.volume import configuration
from oslo_config import cfg

from csi_plugin.known_secrets import is_secret_name, keep_secret, secrets_in, texts_in
from csi_plugin.storage.backend_configuration import Repeated
from csi_plugin.storage.cinder import late_options
from csi_plugin.storage.cinder.adaptations import fibre_channel_zones
from csi_plugin.storage.cinder.adaptations.hidden_options import ACCEPTED_UNREGISTERED
from csi_plugin.storage.cinder.driver_classes import driver_path
from csi_plugin.storage.cinder.option_definitions import definitions_of, read_by_source
from csi_plugin.storage.cinder.option_references import Final, References
from csi_plugin.suggestions import did_you_mean

LOG = logging.getLogger(__name__)

_groups: set[str] = set()
"""Sections of Cinder's configuration that belong to backends of ours."""


class UnknownOption(ValueError):
    """An option that neither Cinder nor the driver defines."""


def set_global(options: Mapping[str, Any]) -> None:
    """Set options of [DEFAULT] (``name``) or of a group (``group.name``) for the whole process.

    Those of the Fibre Channel zone manager are ``fc-zone-manager.name``, those of its fabrics ``fabric.name``.

    Raises ValueError for an ill-typed value. An option that nobody has defined yet is logged as a warning, as Cinder
    would ignore it, and set as soon as a module defines it.
    """
    fibre_channel_zones.register(options)
    for key, value in options.items():
        group, name = _group_and_name(key)
        definition = _global_definition(key)
        if definition is None:
            keep_secret(secrets_in({name: value}))
            LOG.warning("Unknown option %s%s", key, did_you_mean(name, cfg.CONF._opts))
            late_options.expect(group, name, partial(_set_late, key, value, options))
            continue
        _set(definition, value, group, neighbours=options, described_as=f"option {key}")


def _set_late(key: str, value: Any, neighbours: Mapping[str, Any], definition: cfg.Opt) -> None:
    _set(definition, value, _group_and_name(key)[0], neighbours=neighbours, described_as=f"option {key}")


def _group_and_name(key: str) -> tuple[str | None, str]:
    """The section, None for [DEFAULT], and the option that a key of set_global() names."""
    group, _, name = key.rpartition(".")
    group = group.removeprefix("$").strip("[]")
    return None if group in ("", "DEFAULT") else group, name.replace("-", "_")


def secret_among(options: Mapping[str, Any], *, volume_driver: str = "") -> set[str]:
    """Which options are defined as secret: those of a driver, else those that set_global() takes.

    Raises ValueError for a driver that is not there.
    """
    if volume_driver:
        definitions = definitions_of(volume_driver)
        return {name for name in options if name in definitions and definitions[name].secret}
    fibre_channel_zones.register(options)
    return {name for name in options if (found := _global_definition(name)) is not None and found.secret}


def _global_definition(key: str) -> cfg.Opt | None:
    """The definition of ``name`` in [DEFAULT], or of ``group.name``."""
    group, name = _group_and_name(key)
    try:
        return cfg.CONF._get_opt_info(name, group)["opt"]
    except (cfg.NoSuchOptError, cfg.NoSuchGroupError):
        return None


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
            described_as = f"option {key} of backend {name}"
            _set(definition, value, name, neighbours=options, described_as=described_as, is_secret=key in secret)
    _accept_unregistered(name, unknown, options, definitions, strict=strict, secret=secret)
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
    backend_configuration(name, {**options, "volume_driver": driver_path(options)}, strict=False)


def forget(name: str) -> None:
    """Drop a backend's options. Its section stays, empty: oslo.config has no way to remove one."""
    if name in _groups:
        _clear(name)


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


def _set(
    definition: cfg.Opt,
    value: Any,
    group: str | None,
    *,
    neighbours: Mapping[str, Any],
    described_as: str,
    is_secret: bool = False,
) -> None:
    """Set an option, its references replaced for good: oslo.config would replace them at each reading, and fail there.

    A secret is taken as it is, and no message quotes it.
    """
    if isinstance(value, Repeated) and not definition.multi:
        value = value[-1]  # as oslo.config reads its files
    is_secret = is_secret or bool(definition.secret) or is_secret_name(definition.name)
    keep_secret(texts_in(value) if is_secret else secrets_in({definition.name: value}))
    quotes_secret = is_secret
    is_parsed_first = "Dict" in str(definition.type) or not isinstance(value, str)
    if not is_secret and not is_parsed_first:
        references = References(neighbours, group, own_name=definition.dest)
        value = references.replaced(value)
        quotes_secret = references.found_secret
    if definition.multi and not isinstance(value, list | tuple):
        value = [value]
    try:
        cfg.CONF.set_override(definition.dest, _as_text(value), group)
    except (ValueError, TypeError) as error:
        if quotes_secret:  # the value, and an error that quotes it, must not reach a log
            raise ValueError(f"{described_as}: not a valid {definition.type}") from None
        raise ValueError(f"{described_as}: {value!r} is not a valid {definition.type}: {error}") from error
    info = cfg.CONF._get_opt_info(definition.dest, group)
    parsed = info["override"]
    keep_secret(secrets_in(parsed))
    if not is_secret and is_parsed_first:
        parsed = References(neighbours, group, own_name=definition.dest).replaced_within(parsed)
    info["override"] = Final(parsed)


def _as_text(value: Any) -> Any:
    """oslo.config parses text by an option's type; JSON and YAML hand over numbers and booleans already parsed."""
    return str(value) if isinstance(value, bool | int | float) else value


def _accept_unregistered(
    backend: str,
    unknown: Mapping[str, Any],
    options: Mapping[str, Any],
    definitions: Mapping[str, cfg.Opt],
    *,
    strict: bool,
    secret: Collection[str],
) -> None:
    """Options without a definition: known if the driver's source reads them, otherwise a mistake."""
    read = read_by_source(options["volume_driver"]) if unknown else frozenset()
    for key, value in unknown.items():
        if isinstance(value, Repeated):
            value = value[-1]
        is_secret = key in secret or is_secret_name(key)
        keep_secret(texts_in(value) if key in secret else secrets_in({key: value}))
        if key not in read and key not in ACCEPTED_UNREGISTERED:
            message = f"unknown option {key} of backend {backend}{did_you_mean(key, definitions)}"
            if strict:
                raise UnknownOption(message)
            LOG.warning(message)
        elif not isinstance(value, str | int | float | bool | None):
            kind = type(value).__name__
            raise ValueError(f"option {key} of backend {backend} must be text or a number, not a {kind}")
        for group in (configuration.SHARED_CONF_GROUP, backend):
            if key not in cfg.CONF._groups[group]._opts:
                known = ACCEPTED_UNREGISTERED.get(key)
                cfg.CONF.register_opt(cfg.Opt(key, type=known.type if known else _as_it_is), group=group)
        if not is_secret:
            value = References(options, backend, own_name=key).replaced_within(value)
        cfg.CONF.set_override(key, value, backend)
        cfg.CONF._get_opt_info(key, backend)["override"] = Final(value)


def _as_it_is(value: Any) -> Any:
    return value
