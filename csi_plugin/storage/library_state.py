"""What the library keeps for the whole process: its set-up, its store, its backends, and the classes of its objects.

The ground floor of the library. Nothing here imports another of its modules, so that all of them can ask here for what
stands above them: a volume for the class of its snapshots, a JSON form for the class that it is of.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import Record
from csi_plugin.persistence.sealing import check_opened

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend


@dataclass
class LibraryState:
    """The state of this process. Set by ``library_setup`` and Backend; ``lock`` is held while backends are added."""

    is_set_up: bool = False
    persistence: Any = field(init=False)
    """The persistence plugin that the user configured; absent before the set-up."""
    store: RecordStore = field(init=False)
    """The plugin as records, with secret fields in clear: what the library works on; absent before the set-up."""
    sealing_keys: Sequence[bytes] | None = None
    fail_on_missing_backend: bool = True
    output_all_backend_info: bool = False
    non_uuid_ids: bool = False
    project_id: str | None = None
    user_id: str | None = None
    before_driver_call: Callable[[], None] | None = None
    """Called before each driver call; raises to forbid it (LeadershipLost, in a controller that no longer leads)."""
    time_to_wait: Callable[[], float | None] | None = None
    """Called in a thread that finds all slots taken: the seconds that it may wait for one; None: for ever."""
    backends: "dict[str, Backend]" = field(default_factory=dict)
    """The backends that are up, by name."""
    starting_backends: "dict[str, Backend]" = field(default_factory=dict)
    """The backends that a thread is starting, by name."""
    only_looks: bool = False
    """Whether backends are started to see whether they can be, perhaps beside the process that serves them: nothing is
    exported, and nothing about them is recorded."""
    shares_objects: bool = False
    """Whether a program gets the same object for the same id each time, as with cinderlib's memory plugin."""
    objects_in_use: "weakref.WeakValueDictionary[tuple[str, str], Any]" = field(
        default_factory=weakref.WeakValueDictionary
    )
    """Where they are shared: the objects by kind and id."""
    lock: Any = field(default_factory=threading.RLock)
    """Held while a backend is added, so that two threads that ask for one name get one object."""


STATE = LibraryState()


class BackendMissing(KeyError):
    """No backend of that name is up in this process. gRPC: UNAVAILABLE."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"backend {self.name!r} is not up here"


_classes_by_name: dict[str, Any] = {}
_classes_by_record: dict[type[Record], Any] = {}


def register_class(cls: Any, *, json_name: str | None = None, record_type: type[Record] | None = None) -> None:
    """Let a class be found by the ``class`` of its JSON form, or by the type of its records."""
    if json_name is not None:
        _classes_by_name[json_name] = cls
    if record_type is not None:
        _classes_by_record[record_type] = cls


def class_named(json_name: str) -> Any:
    """The class of a JSON form. Raises ValueError for one that the library does not have."""
    try:
        return _classes_by_name[json_name]
    except KeyError:
        raise ValueError(f"class {json_name!r} is not one of {', '.join(sorted(_classes_by_name))}") from None


def class_of(record_type: type[Record]) -> Any:
    """The class of the objects that records of a type stand for. Raises TypeError for records that have none."""
    try:
        return _classes_by_record[record_type]
    except KeyError:
        raise TypeError(f"{record_type.KIND} records have no object") from None


def new_object(record: Record) -> Any:
    """An object of a stored record. Raises SealingError for one whose secrets no sealing key opens."""
    check_opened(record)
    return class_of(type(record)).from_record(record)


def object_of(record: Record) -> Any:
    """The object of a stored record as programs get it: a new one, or the one in use where the plugin shares them.

    Raises as new_object does.
    """
    if STATE.shares_objects:
        found = STATE.objects_in_use.get((record.KIND, record.id))
        if found is not None:
            check_opened(record)
            found._catch_up(record)
            return found
    return new_object(record)


def find_objects(record_type: type[Record], **keys: Any) -> list[Any]:
    """The objects of the records with these keys (see ``RecordStore.find``), in the order of lists."""
    records = STATE.store.in_listing_order(STATE.store.find(record_type, **keys))
    return [object_of(record) for record in records]


def find_backend(backend: "Backend | str | None") -> Any:
    """The backend of a name. One that is not set up raises BackendMissing, or stays a name if setup allowed that."""
    if not isinstance(backend, str):
        return backend
    try:
        return STATE.backends[backend]
    except KeyError:
        if STATE.fail_on_missing_backend:
            raise BackendMissing(backend) from None
    return backend


def state_attribute(name: str) -> Any:
    """An attribute of a class whose metaclass is StateClass: read and set on the class, kept in ``STATE``."""
    return _StateAttribute(name)


class ClassAttribute:
    """An attribute of a class, computed at each reading: the documented ones that are the library's state."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

    def __get__(self, instance: Any, owner: type) -> Any:
        return self._read()


class StateClass(type):
    """Metaclass of Backend, whose documented class attributes are the library's state."""

    def __setattr__(cls, name: str, value: Any) -> None:
        attribute = vars(cls).get(name)
        if isinstance(attribute, _StateAttribute):
            setattr(STATE, attribute.name, value)
        else:
            super().__setattr__(name, value)


class _StateAttribute:
    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return getattr(STATE, self.name)
