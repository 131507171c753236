"""Backends of a native cinder.conf."""

import configparser
from pathlib import Path
from typing import Any

from csi_plugin.server.settings import SettingsError


def read_backends(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The backends that ``enabled_backends`` names, and the options of [DEFAULT] that Cinder's drivers read.

    Each backend is a mapping of its section's options with ``volume_backend_name`` set: the section's own, or the
    section's name. [backend_defaults] applies to all. Raises SettingsError naming the file and what is missing.
    """
    parser = configparser.RawConfigParser(
        strict=False, interpolation=None, default_section="cinderbox no defaults", delimiters=("=", ":")
    )
    try:
        with path.open() as file:
            parser.read_file(file)
    except (OSError, configparser.Error) as error:
        raise SettingsError(f"cinder_conf {path}: {error}") from error
    defaults = dict(parser["DEFAULT"]) if parser.has_section("DEFAULT") else {}
    names = [name.strip() for name in defaults.pop("enabled_backends", "").split(",") if name.strip()]
    if not names:
        raise SettingsError(f"cinder_conf {path}: enabled_backends in [DEFAULT] names no backend")
    shared = dict(parser["backend_defaults"]) if parser.has_section("backend_defaults") else {}
    backends = []
    for name in names:
        if not parser.has_section(name):
            raise SettingsError(f"cinder_conf {path}: enabled_backends names {name}, which has no section")
        backends.append({"volume_backend_name": name, **shared, **dict(parser[name])})
    return backends, {name: value for name, value in defaults.items() if name in _PASSED_DEFAULTS}


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
