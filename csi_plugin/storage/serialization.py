"""JSON forms of all that the library has, and objects from them, under cinderlib's names."""

import json as json_module
from typing import Any

from csi_plugin.storage import objects as objects  # all classes that a JSON form may be of
from csi_plugin.storage.library_state import STATE, class_named

__all__ = ["dump", "dumps", "json", "jsons", "load"]


def load(json_src: Any, save: bool = False) -> Any:
    """The objects that json(), jsons(), dump() or dumps() wrote, here or in cinderlib: one object, or a list.

    ``save`` stores them, replacing what the store has under their ids.
    """
    if isinstance(json_src, str):
        json_src = json_module.loads(json_src)
    if isinstance(json_src, list):
        return [load(item, save) for item in json_src]
    return class_named(json_src["class"]).load(json_src, save)


def json() -> list[dict[str, Any]]:
    """All backends with their volumes, as plain data."""
    return [backend.json for backend in list(STATE.backends.values())]


def jsons() -> str:
    return json_module.dumps(json(), separators=(",", ":"))


def dump() -> list[dict[str, Any]]:
    """All backends with their volumes, snapshots and connections, as plain data."""
    return [backend.dump for backend in list(STATE.backends.values())]


def dumps() -> str:
    return json_module.dumps(dump(), separators=(",", ":"))
