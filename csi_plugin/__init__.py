"""Cinderbox: OpenStack Cinder's volume drivers as a CSI driver and as a library.

``import csi_plugin as cl`` is the library, with the API that cinderlib documented. Its names are loaded on first use,
so that the parts which need no Cinder (the node's) can be imported without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csi_plugin.storage import exception as exception
    from csi_plugin.storage import objects as objects
    from csi_plugin.storage import serialization as serialization
    from csi_plugin.storage.backend import setup as setup
    from csi_plugin.storage.cinder import driver_catalogue as _driver_catalogue
    from csi_plugin.storage.compatibility.cinderlib_alias import install_as_cinderlib as install_as_cinderlib
    from csi_plugin.storage.objects import *  # noqa: F403
    from csi_plugin.storage.serialization import *  # noqa: F403

    list_supported_drivers = _driver_catalogue.supported_drivers
    get_connector_properties: Any

    __version__: str

_OBJECTS = "csi_plugin.storage.objects"
_SERIALIZATION = "csi_plugin.storage.serialization"
_EXPORTS = {
    "DEFAULT_PROJECT_ID": f"{_OBJECTS}:DEFAULT_PROJECT_ID",
    "DEFAULT_USER_ID": f"{_OBJECTS}:DEFAULT_USER_ID",
    "Backend": f"{_OBJECTS}:Backend",
    "Connection": f"{_OBJECTS}:Connection",
    "Group": f"{_OBJECTS}:Group",
    "GroupSnapshot": f"{_OBJECTS}:GroupSnapshot",
    "KeyValue": f"{_OBJECTS}:KeyValue",
    "Snapshot": f"{_OBJECTS}:Snapshot",
    "Volume": f"{_OBJECTS}:Volume",
    "dump": f"{_SERIALIZATION}:dump",
    "dumps": f"{_SERIALIZATION}:dumps",
    "exception": "csi_plugin.storage.exception",
    "get_connector_properties": "os_brick.initiator.connector:get_connector_properties",
    "install_as_cinderlib": "csi_plugin.storage.compatibility.cinderlib_alias:install_as_cinderlib",
    "json": f"{_SERIALIZATION}:json",
    "jsons": f"{_SERIALIZATION}:jsons",
    "list_supported_drivers": "csi_plugin.storage.cinder.driver_catalogue:supported_drivers",
    "load": f"{_SERIALIZATION}:load",
    "objects": _OBJECTS,
    "serialization": _SERIALIZATION,
    "setup": "csi_plugin.storage.backend:setup",
}
"""Every name of the library: the module that it is, or that has it."""

__all__ = [*_EXPORTS]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, _, attribute = _EXPORTS[name].partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


def _version() -> str:
    # Not at import: this takes longer than all else that the node's short-lived children import.
    import tomllib
    from importlib.metadata import version
    from pathlib import Path

    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        # A source tree, whatever version is installed.
        return str(tomllib.loads(project.read_text())["project"]["version"])
    return version("cinderbox")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
