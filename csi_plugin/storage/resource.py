"""What the library's objects have in common: a versioned object inside, an identity in the store, and JSON forms."""

import functools
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

from csi_plugin.persistence.base import RecordNotFound, RevisionConflict, changed_fields
from csi_plugin.persistence.records import Intent, Phase, Record
from csi_plugin.persistence.sealing import check_opened
from csi_plugin.storage import codec, json_form, library_setup
from csi_plugin.storage.cinder.runtime import CONTEXT, DEFAULT_PROJECT_ID, DEFAULT_USER_ID
from csi_plugin.storage.library_state import (
    STATE,
    ClassAttribute,
    class_named,
    find_backend,
    find_objects,
    object_of,
    register_class,
    state_attribute,
)
from csi_plugin.storage.versioned_object import new_versioned_object

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

P = ParamSpec("P")
R = TypeVar("R", bound="Resource")
T = TypeVar("T")


def in_slot(method: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], T]:
    """Decorator: the method holds one of its backend's slots from before the first record that it writes."""

    @functools.wraps(method)
    def call(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.backend.slot():
            return method(self, *args, **kwargs)

    return call


class Resource:
    """A storage object: Cinder's versioned object (``_ovo``) plus what it cannot hold.

    Fields of the versioned object are readable as attributes. Changes reach the store with ``save()``. An object is not
    meant to be shared between threads while it is changed; different objects of the same resource are.
    """

    OVO_CLASS: ClassVar[Any]
    RECORD_CLASS: ClassVar[type[Record]]
    SIMPLE_JSON_IGNORE: ClassVar[tuple[str, ...]] = ()
    LAZY_PROPERTIES: ClassVar[tuple[str, ...]] = ()
    DEFAULT_FIELDS_VALUES: ClassVar[Mapping[str, Any]] = {}
    CONTEXT = CONTEXT
    backend_class: ClassVar[Any] = ClassAttribute(lambda: class_named("Backend"))
    persistence: ClassVar[Any] = state_attribute("persistence")
    """The persistence plugin that the user configured."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "RECORD_CLASS" in vars(cls):
            register_class(cls, json_name=cls.__name__, record_type=cls.RECORD_CLASS)

    @classmethod
    def setup(
        cls, persistence_driver: Any, backend_class: Any, project_id: str, user_id: str, non_uuid_ids: bool
    ) -> None:
        """What cinderlib's set-up calls. ``backend_class`` is the library's own always."""
        library_setup.use_plugin(persistence_driver)
        STATE.project_id = CONTEXT.project_id = project_id or DEFAULT_PROJECT_ID
        STATE.user_id = CONTEXT.user_id = user_id or DEFAULT_USER_ID
        STATE.non_uuid_ids = non_uuid_ids

    def __init__(self, backend: "Backend | str | None", **fields_data: Any) -> None:
        self.intent: Intent | None = fields_data.pop("intent", None)
        self.revision: int = 0
        self._stored_state: tuple[Any, Intent | None] = (None, None)
        self.backend = find_backend(backend)
        ovo = fields_data.pop("__ovo", None)
        self._is_new = ovo is None
        if ovo is None:
            values = {**self.DEFAULT_FIELDS_VALUES, **fields_data}
            ovo = new_versioned_object(self.OVO_CLASS, values, described_as=type(self).__name__)
        self._ovo = ovo

    # Identity and state

    def __getattr__(self, name: str) -> Any:
        # Reached only for names that the object itself lacks.
        if name.startswith("_") and name not in ("_context", "_changed_fields", "_name_id"):
            raise AttributeError(name)
        return getattr(self._ovo, name)

    def __eq__(self, other: Any) -> bool:
        """Whether it is an object of the same thing, be it as it was at another time."""
        return self is other or (
            isinstance(other, Resource) and self.OVO_CLASS is other.OVO_CLASS and self._ovo.id == other._ovo.id
        )

    def __hash__(self) -> int:
        return hash((self.OVO_CLASS, self._ovo.id))

    def __repr__(self) -> str:
        # Also of one that is only half made, and without a look into the store, which may be out of reach.
        ovo = vars(self).get("_ovo")
        identity = ovo.id if ovo is not None and ovo.obj_attr_is_set("id") else "without an id"
        return f"<cinderbox.{type(self).__name__} object {identity}{self._location_text()}>"

    def _location_text(self) -> str:
        """The end of its description: where it is, as far as that is known without reading anything."""
        backend = vars(self).get("backend")
        return f" on backend {getattr(backend, 'id', backend)}"

    @staticmethod
    def new_uuid() -> str:
        return str(uuid.uuid4())

    @classmethod
    def get_by_id(cls, resource_id: Any) -> Self:
        """The one of that id, as it is stored. Raises NotFound, in its kind."""
        found: Self = object_of(cls.stored_record(resource_id))
        return found

    @classmethod
    def stored_record(cls, resource_id: Any) -> Any:
        """The record of an id (text, or a UUID). Raises NotFound, in its kind, and SealingError."""
        record = STATE.store.get(cls.RECORD_CLASS, str(resource_id))
        if record is None:
            raise cls.not_found(str(resource_id))
        check_opened(record)
        return record

    @classmethod
    def not_found(cls, resource_id: str) -> Any:
        """The error for an id that nothing has."""
        raise NotImplementedError

    @property
    def record(self) -> Any:
        """The record that save() would store, built at each read."""
        raise NotImplementedError

    @classmethod
    def from_record(cls, record: Any) -> Self:
        """The object of a stored record."""
        raise NotImplementedError

    @classmethod
    def from_loaded(cls, backend: Any, ovo: Any, extras: json_form.Extras, *, save: bool) -> Self:
        """The object of a versioned object that came out of a JSON form; ``save`` stores it and its relatives."""
        raise NotImplementedError

    def extra_data(self) -> dict[str, Any]:
        """What a JSON form needs to hold beside the versioned object."""
        return {"intent": json_form.intent_to_json(self.intent)} if self.intent else {}

    def take_extra_data(self, data: dict[str, Any]) -> None:
        """Take what ``extra_data`` gave."""
        self.intent = json_form.intent_from_json(data["intent"]) if data.get("intent") else None

    def save(self) -> None:
        """Store the object.

        What another writer stored since this object was read is kept, as far as this object did not change it too:
        drivers save volumes while they work on them, and programs hold several objects of one resource. But when the
        state of a CSI object was changed behind this one's back, RevisionConflict is raised and nothing stored.
        """
        if self.revision == 0 and not self._is_new:
            self._take_revision()  # an object out of a JSON form replaces what is stored
        record = self.record
        if self.revision == 0:
            stored = STATE.store.create(record)
        else:
            try:
                stored = STATE.store.update(record)
            except RevisionConflict:
                stored = self._merge(record)
                codec.take_fields(self._ovo, stored)
        self._note_stored(stored)
        codec.take_stored(self._ovo, stored)
        codec.reset_changes(self._ovo)

    def _save_deletion(self, if_gone: Exception) -> None:
        """save() in a deletion: raises ``if_gone`` when another one came first, and creates no record of its own."""
        self._is_new = False
        try:
            self.save()
        except RecordNotFound as error:
            raise if_gone from error

    def _take_revision(self) -> None:
        """Know what the store has under this object's id, if anything."""
        current = STATE.store.get(self.RECORD_CLASS, self._ovo.id)
        if current is not None:
            self._note_stored(current)

    def _merge(self, record: Any) -> Any:
        """Put this object's changes on top of the record as it is stored now."""
        changed = {name.lstrip("_") for name in changed_fields(self._ovo)}
        if "volume_type" in changed:
            changed |= {"extra_specs", "qos_specs"}
        while True:
            current: Any = STATE.store.get(self.RECORD_CLASS, record.id)
            if current is None:
                raise RecordNotFound(f"{record.KIND} {record.id} is gone")
            if self.intent is not None:
                if _state(current) != self._stored_state:
                    raise RevisionConflict(f"{record.KIND} {record.id} is in another writer's hands")
                current.intent = record.intent
            for name in changed & set(record.__dataclass_fields__):
                setattr(current, name, getattr(record, name))
            try:
                return STATE.store.update(current)
            except RevisionConflict:
                continue  # somebody wrote in between: take theirs in as well

    def _note_stored(self, stored: Any) -> None:
        """Remember what the store has now."""
        is_created = self._is_new and self.revision == 0
        self.revision = stored.revision
        self._stored_state = _state(stored)
        if STATE.shares_objects:
            self._share(replacing=is_created)

    def _share(self, *, replacing: bool) -> None:
        """Be the object that a program gets for this id, ``replacing`` another one that is in use."""
        key = (self.RECORD_CLASS.KIND, self._ovo.id)
        with STATE.lock:
            if replacing:
                STATE.objects_in_use[key] = self
            else:
                STATE.objects_in_use.setdefault(key, self)

    def _catch_up(self, record: Any) -> None:
        """Take what another writer has stored since, as far as this object did not change it too."""
        if record.revision != self.revision:
            codec.take_fields(self._ovo, record, but=changed_fields(self._ovo))
            self.intent = record.intent if hasattr(record, "intent") else None
            self._note_stored(record)

    def _set_phase(self, phase: Phase, condition: str = "") -> None:
        # An orphan is in no list, also while it is being deleted: nobody was told of it.
        if self.intent is not None and self.intent.phase is not Phase.ORPHAN:
            self.intent.phase = phase
            self.intent.condition = condition

    def _call_driver(self, call: Callable[[Any], Any]) -> Any:
        """Run a driver call in one of the backend's slots; an error carries this object as ``resource``."""
        try:
            with self.backend.slot():
                return call(self.backend.calls)
        except Exception as error:
            # Drivers raise anything; cinderlib's callers look for the resource on all of it.
            error.resource = self  # type: ignore[attr-defined]
            raise

    # JSON forms

    @property
    def json(self) -> dict[str, Any]:
        return self.to_json(simplified=False)

    @property
    def jsons(self) -> str:
        return self.to_jsons(simplified=False)

    @property
    def dump(self) -> dict[str, Any]:
        """json() with everything that is loaded lazily."""
        for name in self.LAZY_PROPERTIES:
            getattr(self, name)
        return self.json

    @property
    def dumps(self) -> str:
        return json.dumps(self.dump, separators=(",", ":"))

    def to_json(self, simplified: bool = True) -> dict[str, Any]:
        """The object as plain data; ``simplified`` leaves out related objects."""
        return json_form.resource_to_json(self, simplified=simplified)

    def to_jsons(self, simplified: bool = True) -> str:
        return json.dumps(self.to_json(simplified), separators=(",", ":"))

    def to_dict(self) -> Any:
        """The fields as plain nested dictionaries, without the versioning around them."""
        return json_form.only_data(self.json["ovo"])

    @classmethod
    def load(cls, json_src: dict[str, Any] | str, save: bool = False) -> Self:
        """The object of one of its JSON forms, data or text. Raises ValueError for that of another class."""
        data = json.loads(json_src) if isinstance(json_src, str) else json_src
        found: Self = json_form.load_resource(cls, data, save=save)
        return found


class NamedResource(Resource):
    """A resource with a name and a description."""

    def __init__(self, backend: "Backend | str | None", **fields_data: Any) -> None:
        for short in ("name", "description"):
            if short in fields_data:
                fields_data[f"display_{short}"] = fields_data.pop(short)
        super().__init__(backend, **fields_data)

    @classmethod
    def get_by_name(cls, name: str) -> list[Self]:
        """Those of that name; names need not be unique."""
        return find_objects(cls.RECORD_CLASS, display_name=name)

    @property
    def name(self) -> Any:
        return self._ovo.display_name

    @property
    def description(self) -> Any:
        return self._ovo.display_description

    @property
    def name_in_storage(self) -> Any:
        """What Cinder's drivers call the object on the backend."""
        return self._ovo.name


def _state(record: Any) -> tuple[Any, Intent | None]:
    """What only one writer may change at a time."""
    intent = getattr(record, "intent", None)
    return getattr(record, "status", None), replace(intent) if intent else None
