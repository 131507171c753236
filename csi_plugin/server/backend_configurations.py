"""The configurations of the backends that the settings name, in themselves and in a native cinder.conf."""

from collections.abc import Mapping
from typing import Any

from csi_plugin.server.backend_names import check_names
from csi_plugin.server.cinder_conf import read_backends
from csi_plugin.server.driver_names import full_driver_name
from csi_plugin.server.settings import Settings, SettingsError
from csi_plugin.storage.backend_configuration import BackendConfiguration


def backend_configurations(settings: Settings) -> list[BackendConfiguration]:
    """The configuration of every backend of the settings. Raises SettingsError for a bad cinder.conf, and for
    a backend that the settings have too."""
    sections: list[Mapping[str, Any]] = [*settings.backends]
    if settings.cinder_conf:
        sections += read_backends(settings.cinder_conf)[0]
        try:
            check_names([section["volume_backend_name"] for section in sections])
        except ValueError as error:
            raise SettingsError(f"backends and cinder_conf together: {error}") from None
    return [_configuration(section, settings) for section in sections]


def _configuration(section: Mapping[str, Any], settings: Settings) -> BackendConfiguration:
    defaults = {"topology": settings.topologies, "strict": True}
    driver = full_driver_name(section["volume_driver"])
    return BackendConfiguration.from_arguments(**{**defaults, **section, "volume_driver": driver})
