"""From ``persistence_config`` to a plugin."""

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from csi_plugin.persistence.base import InvalidPersistence, PersistenceDriverBase, RecordStore

DEFAULT_STORAGE = "memory"
ENTRY_POINT_GROUPS = ("cinderbox.persistence", "cinderlib.persistence.storage")
"""Where plugins are looked up by name, in this order. The second is where cinderlib's plugins register."""


def load_plugin(config: Mapping[str, Any] | None) -> RecordStore | PersistenceDriverBase:
    """The plugin that ``config["storage"]`` names: an entry point's name, a class, or an instance.

    The other keys of ``config`` are the keyword arguments of the plugin's class (an instance ignores them).
    None or no ``storage`` means memory. Raises InvalidPersistence; errors of the plugin's own start (database
    out of reach) pass through.
    """
    arguments = dict(config or {})
    storage = arguments.pop("storage", None) or DEFAULT_STORAGE
    if isinstance(storage, str):
        storage = _load_entry_point(storage)
    if isinstance(storage, RecordStore | PersistenceDriverBase):
        return storage
    if not (inspect.isclass(storage) and issubclass(storage, RecordStore | PersistenceDriverBase)):
        raise InvalidPersistence(
            "storage must be a plugin's name, class or instance (of PersistenceDriverBase or RecordStore), "
            f"not {storage!r}"
        )
    try:
        inspect.signature(storage).bind(**arguments)
    except TypeError as error:
        raise InvalidPersistence(f"persistence plugin {storage.__name__}: {error}") from error
    plugin: RecordStore | PersistenceDriverBase = storage(**arguments)
    return plugin


def available_plugins() -> list[str]:
    """Names that ``storage`` may have on this machine, sorted."""
    return sorted({entry.name for group in ENTRY_POINT_GROUPS for entry in entry_points(group=group)})


def _load_entry_point(name: str) -> Any:
    for group in ENTRY_POINT_GROUPS:
        for entry in entry_points(group=group, name=name):
            try:
                return entry.load()
            except ImportError as error:
                raise InvalidPersistence(
                    f"persistence plugin {name} ({entry.value}) cannot be imported: {error}"
                ) from error
    raise InvalidPersistence(
        f"no persistence plugin is named {name!r}; installed ones are {', '.join(available_plugins())}"
    )
