"""Records as JSON values, for stores that keep text, and as copies that share nothing."""

import typing
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from csi_plugin.persistence.records import JSON, Intent, Phase, Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)


def utc_now() -> datetime:
    """The current time as stores stamp it: aware, UTC, exact: what came first is told by it, so no store cuts it."""
    return datetime.now(UTC)


def copy(record: R) -> R:
    """A copy of a record that shares no dict, list or Intent with it."""
    kind: Any = type(record)
    clone: R = kind.__new__(kind)
    for name in _names(kind):
        value = getattr(record, name)
        setattr(clone, name, value if value is None or value.__class__ is str else _copy_value(value))
    return clone


def to_json(value: Record | Intent) -> JSON:
    """The fields as a JSON object; datetimes in ISO 8601."""
    return typing.cast(JSON, _to_json(asdict(value)))


def from_json(kind: type[T], data: JSON) -> T:
    """The record or Intent that ``to_json`` was given. Unknown fields are left out."""
    decoders = _decoders(typing.cast(Any, kind))
    return kind(**{name: decoders[name](value) for name, value in data.items() if name in decoders})


def _copy_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy_value(item) for item in value]
    if isinstance(value, Intent):
        clone = Intent.__new__(Intent)
        for name in _names(Intent):
            setattr(clone, name, _copy_value(getattr(value, name)))
        return clone
    return value


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _decoders(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {name: _decoder(hints[name]) for name in _names(kind)}


def _decoder(hint: Any) -> Any:
    allowed = typing.get_args(hint) or (hint,)
    if datetime in allowed:
        return lambda value: datetime.fromisoformat(value) if isinstance(value, str) else value
    if Intent in allowed:
        return lambda value: from_json(Intent, value) if isinstance(value, dict) else value
    if Phase in allowed:
        return Phase
    return _copy_value
