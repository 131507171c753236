"""Backends of a native cinder.conf, read as Cinder reads it."""

from pathlib import Path
from typing import Any

from oslo_config import iniparser

from csi_plugin.server.settings import SettingsError
from csi_plugin.storage.backend_configuration import Repeated

_ZONES = "fc-zone-manager"
_FABRICS = "fc_fabric_names"


def read_backends(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The backends that ``enabled_backends`` names, and the options of other sections that Cinder's drivers read.

    Each backend is a mapping of its section's options. Its ``volume_backend_name``, by which volumes remember it, is
    the section's name, since two sections may have an option of that name in common. [backend_defaults] applies to
    all. Options of [fc-zone-manager] and of its fabrics' sections are ``section.option``. Raises SettingsError naming
    the file and what is missing.
    """
    sections = _read(path)
    defaults = sections.get("default", {})
    names = _listed(defaults.get("enabled_backends"))
    if not names:
        raise SettingsError(f"cinder_conf {path}: enabled_backends in [DEFAULT] names no backend")
    backends = []
    for name in names:
        if name.lower() not in sections:
            raise SettingsError(f"cinder_conf {path}: enabled_backends names {name}, which has no section")
        options = {**sections.get("backend_defaults", {}), **sections[name.lower()]}
        backends.append({**options, "volume_backend_name": name})
    others = {name: value for name, value in defaults.items() if name in _PASSED_DEFAULTS}
    zones = sections.get(_ZONES, {})
    for name in [_ZONES, *_listed(zones.get(_FABRICS))] if zones else []:
        others |= {f"{name}.{option}": value for option, value in sections.get(name.lower(), {}).items()}
    return backends, others


def _read(path: Path) -> dict[str, dict[str, str | Repeated]]:
    """Sections by their names in small letters, as oslo.config finds them."""
    parser = _Parser()
    try:
        # Comments may be in any encoding; oslo.config itself reads the file as the locale says.
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            parser.parse(file)
    except iniparser.ParseError as error:
        # Its text quotes the line, which may hold a password.
        raise SettingsError(f"cinder_conf {path}: line {error.lineno}: {error.msg}") from None
    except OSError as error:
        raise SettingsError(f"cinder_conf {path}: {error.strerror}") from error
    return {
        section: {name: values[0] if len(values) == 1 else Repeated(values) for name, values in options.items()}
        for section, options in parser.sections.items()
    }


class _Parser(iniparser.BaseParser):  # type: ignore[misc]
    """oslo.config's parser of lines, with what its reader of files makes of them."""

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, list[str]]] = {}
        self._section: dict[str, list[str]] | None = None

    def new_section(self, section: str) -> None:
        self._section = self.sections.setdefault(section.lower(), {})

    def assignment(self, key: str, value: list[str]) -> None:
        if self._section is None:
            raise iniparser.ParseError("no section has begun", self.lineno, "")
        text = "\n".join(value)
        try:
            (key + text).encode()
        except UnicodeEncodeError:
            raise iniparser.ParseError(f"the option before it is not UTF-8: {key!r}", self.lineno, "") from None
        self._section.setdefault(key, []).append(text)


def _listed(value: str | Repeated | None) -> list[str]:
    """A list of names, as oslo.config's lists are written."""
    text = value[-1] if isinstance(value, Repeated) else value or ""
    return [name for name in (word.strip().strip("\"'") for word in text.split(",")) if name]


# The rest of [DEFAULT] is about OpenStack's own services.
_PASSED_DEFAULTS = frozenset(
    {
        "host",
        "my_ip",
        "rootwrap_config",
        "volume_name_template",
        "snapshot_name_template",
        "max_over_subscription_ratio",
        "reserved_percentage",
        "num_volume_device_scan_tries",
        "strict_ssh_host_key_policy",
        "ssh_hosts_key_file",
        "use_multipath_for_image_xfer",
        "enforce_multipath_for_image_xfer",
        "driver_ssl_cert_verify",
        "driver_ssl_cert_path",
        "zoning_mode",
        "storage_availability_zone",
    }
)
