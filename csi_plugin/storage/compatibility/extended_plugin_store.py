"""A built-in plugin whose class a program has extended, as cinderlib's were: its own methods get what is stored.

The library keeps records in the built-in plugins, and so does not come by their methods that store objects. A program
that overrides these, to write a file of its own or to tell another program, would never be called.
"""

from typing import Any, TypeVar

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.builtin_plugin import BuiltinPlugin, ObjectCodec
from csi_plugin.persistence.records import ConnectionRecord, Record, SnapshotRecord, VolumeRecord
from csi_plugin.persistence.wrapping_store import WrappingStore

R = TypeVar("R", bound=Record)

_KINDS: tuple[type[Record], ...] = (VolumeRecord, SnapshotRecord, ConnectionRecord)
_METHODS = tuple(f"{verb}_{kind.KIND}" for verb in ("set", "delete") for kind in _KINDS)


def is_extended(plugin: BuiltinPlugin) -> bool:
    """Whether its class has methods of its own that store or delete objects."""
    return any(getattr(type(plugin), name) is not getattr(BuiltinPlugin, name) for name in _METHODS)


class ExtendedPluginStore(WrappingStore):
    """Stores in the built-in plugin, and then calls the program's method, as it does with plugins from elsewhere.

    The method of the built-in class, which it may call, finds the record stored and leaves it alone.
    """

    def __init__(self, inner: RecordStore, plugin: BuiltinPlugin, codec: ObjectCodec) -> None:
        """``inner``: the plugin, or what seals the secret fields of its records."""
        super().__init__(inner)
        self._plugin = plugin
        self._codec = codec

    def create(self, record: R) -> R:
        return self._hand_over(self.inner.create(record))

    def update(self, record: R) -> R:
        return self._hand_over(self.inner.update(record))

    def delete(self, record: Record) -> None:
        stored = self.inner.get(type(record), record.id) if isinstance(record, _KINDS) else None
        self.inner.delete(record)
        if stored is not None:
            getattr(self._plugin, f"delete_{stored.KIND}")(self._codec.to_object(stored))

    def _hand_over(self, stored: R) -> R:
        if not isinstance(stored, _KINDS):
            return stored
        obj: Any = self._codec.to_object(stored)
        getattr(self._plugin, f"set_{stored.KIND}")(obj)
        if obj.revision == stored.revision:
            return stored
        changed: Any = self._codec.to_record(obj)  # the method stored it with something else in it
        return changed  # type: ignore[no-any-return]
