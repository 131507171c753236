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
    from csi_plugin.storage.backend import Backend, setup
    from csi_plugin.storage.cinder.driver_catalogue import supported_drivers as list_supported_drivers
    from csi_plugin.storage.cinder.runtime import DEFAULT_PROJECT_ID, DEFAULT_USER_ID
    from csi_plugin.storage.compatibility.cinderlib_alias import install_as_cinderlib
    from csi_plugin.storage.connection import Connection
    from csi_plugin.storage.group import Group, GroupSnapshot
    from csi_plugin.storage.key_value import KeyValue
    from csi_plugin.storage.serialization import dump, dumps, json, jsons, load
    from csi_plugin.storage.snapshot import Snapshot
    from csi_plugin.storage.volume import Volume

    get_connector_properties: Any

    __version__: str

_HOMES = {
    "Backend": "csi_plugin.storage.backend",
    "Connection": "csi_plugin.storage.connection",
    "DEFAULT_PROJECT_ID": "csi_plugin.storage.cinder.runtime",
    "DEFAULT_USER_ID": "csi_plugin.storage.cinder.runtime",
    "Group": "csi_plugin.storage.group",
    "GroupSnapshot": "csi_plugin.storage.group",
    "KeyValue": "csi_plugin.storage.key_value",
    "Snapshot": "csi_plugin.storage.snapshot",
    "Volume": "csi_plugin.storage.volume",
    "dump": "csi_plugin.storage.serialization",
    "dumps": "csi_plugin.storage.serialization",
    "get_connector_properties": "os_brick.initiator.connector",
    "install_as_cinderlib": "csi_plugin.storage.compatibility.cinderlib_alias",
    "json": "csi_plugin.storage.serialization",
    "jsons": "csi_plugin.storage.serialization",
    "load": "csi_plugin.storage.serialization",
    "setup": "csi_plugin.storage.backend",
}
_MODULES = {
    "exception": "csi_plugin.storage.exception",
    "objects": "csi_plugin.storage.objects",
    "serialization": "csi_plugin.storage.serialization",
}

__all__ = [
    "DEFAULT_PROJECT_ID",
    "DEFAULT_USER_ID",
    "Backend",
    "Connection",
    "Group",
    "GroupSnapshot",
    "KeyValue",
    "Snapshot",
    "Volume",
    "dump",
    "dumps",
    "exception",
    "get_connector_properties",
    "install_as_cinderlib",
    "json",
    "jsons",
    "list_supported_drivers",
    "load",
    "objects",
    "serialization",
    "setup",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name == "list_supported_drivers":
        return importlib.import_module("csi_plugin.storage.cinder.driver_catalogue").supported_drivers
    if name == "__version__":
        return _version()
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    # Not at import: this takes longer than all else that the node's short-lived children import.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cinderbox")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0.0.0"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
