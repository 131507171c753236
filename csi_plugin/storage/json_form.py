"""The JSON form of one object, in cinderlib's format: what it dumped loads here, and the other way round.

An object is ``{"class", "backend", "ovo"}``, where ``ovo`` is the primitive form of Cinder's versioned object. Objects
refer to each other in circles (a volume's snapshots know their volume), so each is written where it is met first. What
the versioned object cannot hold travels in its ``cinderbox.data``, which other readers pass over.
"""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from csi_plugin.persistence.records import Intent, Phase
from csi_plugin.storage.cinder import objects_base
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import class_named

if TYPE_CHECKING:
    from csi_plugin.storage.resource import Resource

EXTRA = "cinderbox.data"

Extras = dict[tuple[str, str], dict[str, Any]]
"""``cinderbox.data`` of the versioned objects in a JSON form, by class name and id."""


def resource_to_json(resource: "Resource", *, simplified: bool) -> dict[str, Any]:
    ignore = set(resource.SIMPLE_JSON_IGNORE) if simplified else set()
    backend = resource.backend
    return {
        "class": type(resource).__name__,
        "backend": getattr(backend, "config", {"volume_backend_name": backend}),
        "ovo": _primitive(resource._ovo, set(), ignore, extras_of(resource)),
    }


def extras_of(resource: "Resource") -> Extras:
    """What the versioned objects of a resource and of its loaded relatives cannot hold."""
    extras: Extras = {}
    for relative in (resource, *resource.loaded_relatives()):
        data = relative.extra_data()
        if data:
            extras[relative._ovo.obj_name(), relative._ovo.id] = data
    return extras


def _primitive(ovo: Any, visited: set[int], ignore: Iterable[str], extras: Extras) -> dict[str, Any]:
    visited.add(id(ovo))
    data = {}
    for name, field in ovo.fields.items():
        if name in ignore or not ovo.obj_attr_is_set(name):
            continue
        value = getattr(ovo, name)
        if id(value) not in visited:
            data[name] = _field_primitive(ovo, name, field, value, visited, extras)
    primitive = {
        "versioned_object.name": ovo.obj_name(),
        "versioned_object.namespace": ovo.OBJ_PROJECT_NAMESPACE,
        "versioned_object.version": ovo.VERSION,
        "versioned_object.data": data,
    }
    extra = extras.get((ovo.obj_name(), getattr(ovo, "id", "") if "id" in ovo.fields else ""))
    if extra:
        primitive[EXTRA] = extra
    return primitive


def _field_primitive(ovo: Any, name: str, field: Any, value: Any, visited: set[int], extras: Extras) -> Any:
    if isinstance(value, objects_base.CinderObject):
        return _primitive(value, visited, (), extras)
    if isinstance(field, objects_base.fields.ListOfObjectsField):
        return [_primitive(item, visited, (), extras) for item in value if id(item) not in visited]
    if isinstance(value, datetime):
        # Cinder's own form drops fractions of a second; a reader of either takes both.
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return field.to_primitive(ovo, name, value)


def load_resource(cls: "type[Resource]", json_src: dict[str, Any], *, save: bool) -> Any:
    """An object of its JSON form; ``save`` stores it and its relatives, over what is there."""
    name = json_src["ovo"]["versioned_object.name"]
    if name != cls.OVO_CLASS.obj_name():
        raise ValueError(f"this is the JSON form of a {name}, not of a {cls.OVO_CLASS.obj_name()}")
    backend = class_named("Backend").load_backend(json_src["backend"])
    extras: Extras = {}
    _collect_extras(json_src["ovo"], extras)
    ovo = objects_base.CinderObject.obj_from_primitive(json_src["ovo"], CONTEXT)
    return cls.from_loaded(backend, ovo, extras, save=save)


def apply_extras(resource: "Resource", extras: Extras) -> None:
    data = extras.get((resource._ovo.obj_name(), resource._ovo.id))
    if data:
        resource.take_extra_data(data)


def _collect_extras(primitive: Any, extras: Extras) -> None:
    if isinstance(primitive, list):
        for item in primitive:
            _collect_extras(item, extras)
    elif isinstance(primitive, dict):
        if EXTRA in primitive:
            data = primitive["versioned_object.data"]
            extras[primitive["versioned_object.name"], data.get("id", "")] = primitive[EXTRA]
        for value in primitive.values():
            _collect_extras(value, extras)


def intent_to_json(intent: Intent) -> dict[str, Any]:
    data = asdict(intent)
    data["ended_at"] = intent.ended_at.isoformat() if intent.ended_at else None
    return data


def intent_from_json(data: dict[str, Any]) -> Intent:
    values = dict(data)
    values["phase"] = Phase(values["phase"])
    values["ended_at"] = datetime.fromisoformat(values["ended_at"]) if values.get("ended_at") else None
    return Intent(**values)


def only_data(primitive: Any) -> Any:
    """Fields as nested dictionaries and lists, without the versioning around them."""
    if isinstance(primitive, list):
        return [only_data(item) for item in primitive]
    if not isinstance(primitive, dict):
        return primitive
    if "versioned_object.data" not in primitive:
        return {key: only_data(value) for key, value in primitive.items()}
    data = primitive["versioned_object.data"]
    return {primitive["versioned_object.name"].lower(): only_data(data)}
