"""A record store on top of a third-party persistence plugin, which keeps the library's objects.

The plugin's objects cannot hold what Cinderbox adds (revision, intent, CSI node...), and such a plugin knows
nothing of groups. So each record is kept whole, as JSON, in a key-value of the plugin, under
``cinderbox.<kind>.<id>``: one write, which either happened or did not. After it, the plugin is given the object, so
that its own data and its get_* methods are what their author expects. Objects that a plugin holds already, from
cinderlib or from a program that calls it directly, are imported when the store is used first. A plugin sees secrets
sealed only.

Key-values are different: programs read and write them through the plugin alone, so the plugin's value counts, and
``cinderbox.key-value.<key>`` adds revision and times. All keys are legal names in Kubernetes, which plugins make them.
"""

import json
import logging
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from csi_plugin.persistence.base import (
    PersistenceDriverBase,
    RecordExists,
    RecordNotFound,
    RecordStore,
    RevisionConflict,
)
from csi_plugin.persistence.builtin_plugin import ObjectCodec
from csi_plugin.persistence.encoding import copy, from_json, to_json, utc_now
from csi_plugin.persistence.leases import fenced_write
from csi_plugin.persistence.records import (
    RECORD_TYPES,
    ConnectionRecord,
    KeyValueRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)

R = TypeVar("R", bound=Record)

RESERVED = "cinderbox."
_OWN = "cinderbox/"
"""With this begin the keys of the controller's own key-values, which are kept as records alone, and in earlier versions
those of all records."""
_OBJECT_KINDS: tuple[type[Record], ...] = (VolumeRecord, SnapshotRecord, ConnectionRecord)
_IMPORTED = f"{RESERVED}adopted"
_PAGE = 500
_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_LEGAL_NAME = re.compile(rf"(?!0x-)(?=.{{1,200}}$){_LABEL}(\.{_LABEL})*")

LOG = logging.getLogger(__name__)


class CinderlibPluginStore(RecordStore):
    """Records in a plugin with the thirteen documented methods.

    Atomic and thread-safe within the process; between processes if the plugin's own create_if_absent and
    compare_and_set are (it says so by ATOMIC_ACROSS_PROCESSES). A plugin is called by one thread at a time unless it
    says THREAD_SAFE.
    """

    def __init__(self, plugin: PersistenceDriverBase, codec: ObjectCodec) -> None:
        """``codec``: turns records into the library's objects and back."""
        self.plugin = plugin
        self.ATOMIC_ACROSS_PROCESSES = plugin.ATOMIC_ACROSS_PROCESSES
        self._codec = codec
        self._locks = [threading.RLock() for _ in range(64 if plugin.THREAD_SAFE else 1)]
        self._import_lock = threading.Lock()
        self._has_imported = False

    @fenced_write
    def create(self, record: R) -> R:
        stored = copy(record)
        stored.revision = 1
        stored.created_at = stored.created_at or utc_now()
        self._import_existing(type(record))
        with self._lock(record.KIND, record.id):
            if self.get(type(record), record.id) is not None or not self._create(stored):
                raise RecordExists(f"{record.KIND} {record.id} exists")
            self._hand_over(stored)
        return stored

    @fenced_write
    def update(self, record: R) -> R:
        stored = replace(copy(record), revision=record.revision + 1, updated_at=utc_now())
        self._import_existing(type(record))
        with self._lock(record.KIND, record.id):
            text = self._value(_key(record.KIND, record.id))
            current = self._record(type(record), record.id, text)
            if current is None:
                raise RecordNotFound(f"{record.KIND} {record.id} is not there")
            if current.revision != record.revision or not self._replace(stored, text):
                raise RevisionConflict(f"{record.KIND} {record.id} is not at revision {record.revision}")
            self._hand_over(stored)
        return stored

    @fenced_write
    def delete(self, record: Record) -> None:
        self._import_existing(type(record))
        with self._lock(record.KIND, record.id):
            if _has_object(type(record), record.id):
                for obj in self._objects(type(record), record.id):
                    if isinstance(record, KeyValueRecord):
                        self._delete_key_value(obj)
                    else:
                        getattr(self.plugin, f"delete_{record.KIND}")(obj)
            for key_value in self.plugin.get_key_values(_key(record.KIND, record.id)):
                self._delete_key_value(key_value)

    def get(self, kind: type[R], record_id: str) -> R | None:
        self._import_existing(kind)
        with self._lock(kind.KIND, record_id):
            return self._record(kind, record_id, self._value(_key(kind.KIND, record_id)))

    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        wanted = self.wanted_keys(kind, keys)
        found: list[R] = []
        if limit == 0:
            return found
        self._import_existing(kind)
        with self._reading():
            for record in self._all(kind, after):
                if all(getattr(record, name) == value for name, value in wanted.items()):
                    found.append(record)
                    if len(found) == limit:
                        break
        return found

    def find_any(self, kind: type[R], key: str, values: Iterable[str]) -> list[R]:
        self.wanted_keys(kind, {key: None})
        wanted = set(values)
        self._import_existing(kind)
        with self._reading():
            return [record for record in self._all(kind, None) if getattr(record, key) in wanted]

    def health(self) -> None:
        with self._reading():
            self.plugin.health()

    def close(self) -> None:
        with self._reading():
            self.plugin.close()

    def _create(self, stored: Record) -> bool:
        return self.plugin.create_if_absent(self._key_value(_key(stored.KIND, stored.id), _text(stored)))

    def _replace(self, stored: Record, old: str | None) -> bool:
        if old is None:
            return self._create(stored)
        key_value = self._key_value(_key(stored.KIND, stored.id), _text(stored))
        return self.plugin.compare_and_set(key_value, old_value=old)

    def _hand_over(self, stored: Record) -> None:
        """Give the plugin the object of a record that was written."""
        if _has_object(type(stored), stored.id):
            getattr(self.plugin, f"set_{stored.KIND}")(self._object(stored))

    def _object(self, record: Record) -> Any:
        """The object of a record for the plugin.

        Its relatives, which it would read on access and a dump includes, come from here too: there, secrets are as
        sealed as in the record.
        """
        obj = self._codec.to_object(_with_dict(record))
        if isinstance(record, VolumeRecord):
            obj._snapshots, obj._connections = [], []
        elif isinstance(record, SnapshotRecord | ConnectionRecord):
            volume = self._record(VolumeRecord, record.volume_id, self._value(_key("volume", record.volume_id)))
            if volume is not None:
                obj.volume = self._object(volume)
        return obj

    def _record(self, kind: type[R], record_id: str, text: str | None) -> R | None:
        record = None if text is None else from_json(kind, json.loads(text))
        if kind is KeyValueRecord and _has_object(kind, record_id):
            for plain in self._objects(kind, record_id):
                return _with_value(kind, record, plain)
        if record is None and kind in _OBJECT_KINDS:
            for obj in self._objects(kind, record_id):  # a program may have stored it through the plugin
                return replace(_without_dict(self._codec.to_record(obj)), revision=1)  # type: ignore[return-value]
        return record

    def _all(self, kind: type[R], after: str | None) -> Iterator[R]:
        """Records of a kind in order of id."""
        if kind is KeyValueRecord:
            yield from self._all_key_values(kind, after)
            return
        prefix = _prefix(kind.KIND)
        last = None if after is None else _key(kind.KIND, after)
        while page := self.plugin.get_key_values_page(prefix, after=last, limit=_PAGE):
            for key_value in page:
                yield from_json(kind, json.loads(key_value.value))
            last = page[-1].key

    def _all_key_values(self, kind: type[R], after: str | None) -> list[R]:
        prefix = _prefix(kind.KIND)
        everything = {key_value.key: key_value for key_value in self.plugin.get_key_values(None)}
        own = [from_json(kind, json.loads(found.value)) for key, found in everything.items() if key.startswith(prefix)]
        records = {record.id: record for record in own}
        for key, plain in everything.items():
            if _has_object(kind, key) and (key in records or not _is_reserved(key)):
                records[key] = _with_value(kind, records.get(key), plain)
        return [record for key, record in sorted(records.items()) if after is None or key > after]

    def _objects(self, kind: type[Record], record_id: str) -> list[Any]:
        """The plugin's own object of a record, in a list that is empty when it has none."""
        return list(getattr(self.plugin, f"get_{kind.KIND}s")(record_id))

    def _value(self, key: str) -> str | None:
        for key_value in self.plugin.get_key_values(key):
            value: str = key_value.value
            return value
        return None

    def _key_value(self, key: str, text: str) -> Any:
        return self._codec.to_object(KeyValueRecord(id=key, value=text))

    def _import_existing(self, kind: type[Record]) -> None:
        """Create records of the objects that the plugin holds from before it was used here; once in its life.

        Objects of a backend that is not set up yet may not be readable: that is attempted again at the next call.
        """
        if self._has_imported or kind not in _OBJECT_KINDS:
            return
        with self._import_lock, self._reading():
            if self._has_imported or self.plugin.get_key_values(_IMPORTED):
                self._has_imported = True
                return
            if self.plugin.get_key_values(f"{_OWN}adopted"):
                self._rename_keys()
                self._has_imported = True
                return
            try:
                found = [obj for kind in _OBJECT_KINDS for obj in getattr(self.plugin, f"get_{kind.KIND}s")()]
            except Exception:  # the plugin's author decides what it raises
                LOG.warning("the persistence plugin's objects cannot be read yet", exc_info=True)
                return
            for obj in found:
                self._create(replace(_without_dict(self._codec.to_record(obj)), revision=1))
            self.plugin.set_key_value(self._key_value(_IMPORTED, "1"))
            self._has_imported = True

    def _rename_keys(self) -> None:
        """Give records of an earlier version, whose keys had slashes, their names of today."""
        kinds = {kind.KIND for kind in RECORD_TYPES}
        earlier = []
        for key_value in self.plugin.get_key_values(None):
            kind, _, record_id = key_value.key.removeprefix(_OWN).partition("/")
            if key_value.key.startswith(_OWN) and kind in kinds:
                self.plugin.create_if_absent(self._key_value(_key(kind, record_id), key_value.value))
                earlier.append(key_value)
        self.plugin.set_key_value(self._key_value(_IMPORTED, "1"))
        for key_value in (*earlier, *self.plugin.get_key_values(f"{_OWN}adopted")):
            self._delete_key_value(key_value)

    def _delete_key_value(self, key_value: Any) -> None:
        self.plugin.delete_key_value(_Key.of(key_value))

    def _lock(self, kind: str, record_id: str) -> threading.RLock:
        return self._locks[hash((kind, record_id)) % len(self._locks)]

    def _reading(self) -> AbstractContextManager[Any]:
        """What a call that is not about one record holds: nothing, if the plugin is thread-safe."""
        return self._locks[0] if len(self._locks) == 1 else nullcontext()


class _Key(str):
    """A key that is a key-value too: cinderlib's base class gives delete_key_value() a key, its plugins an object."""

    key: str
    value: str

    @classmethod
    def of(cls, key_value: Any) -> "_Key":
        found = cls(key_value.key)
        found.key, found.value = key_value.key, key_value.value
        return found


def _prefix(kind: str) -> str:
    return f"{RESERVED}{kind.replace('_', '-')}."


def _key(kind: str, record_id: str) -> str:
    name = record_id if _LEGAL_NAME.fullmatch(record_id) else f"0x-{record_id.encode().hex()}"
    return _prefix(kind) + name


def _with_dict(record: Record) -> Record:
    """The record as an object can hold it: a sealed connection_info is text, which Cinder's object does not take."""
    if isinstance(record, ConnectionRecord) and isinstance(record.connection_info, str):
        return replace(record, connection_info={"sealed": record.connection_info})
    return record


def _without_dict(record: Record) -> Record:
    """Undoes _with_dict."""
    if isinstance(record, ConnectionRecord) and set(record.connection_info or ()) == {"sealed"}:
        return replace(record, connection_info=record.connection_info["sealed"])  # type: ignore[index]
    return record


def _has_object(kind: type[Record], record_id: str) -> bool:
    """Whether a record's plugin is given the object that it stands for."""
    return kind in _OBJECT_KINDS or (kind is KeyValueRecord and not record_id.startswith(_OWN))


def _is_reserved(key: str) -> bool:
    """Whether a key-value is one that holds a record, not one of somebody's."""
    return key == _IMPORTED or any(key.startswith(_prefix(kind.KIND)) for kind in RECORD_TYPES)


def _text(record: Record) -> str:
    return json.dumps(to_json(record), separators=(",", ":"), sort_keys=True)


def _with_value(kind: type[R], record: R | None, plain: Any) -> R:
    """A key-value record with the value that the plugin has for its key."""
    found: Any = record or kind(id=plain.key, revision=1)
    found.value = plain.value
    return found  # type: ignore[no-any-return]
