"""Removal of secrets from what is logged, at the one place that every log line passes, and its bounds.

Three nets: values under telling names, in dictionaries and messages; telling shapes inside text; and values that are
known to be secret, wherever they are. A line has bounds in every direction, so that no request makes one long.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from google.protobuf.message import Message

from csi_plugin.known_secrets import LEAST_LENGTH, MASK, is_secret_name, keep_passing_secret, names_a_secret, texts_in
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.request_rules import MAP_LIMIT
from csi_plugin.secrets_in_text import FIELD_LIMIT, TEXT_LIMIT, redact_text

# What the specification does not mark: how a node gets at a volume, which is nobody else's business.
_SECRET_FIELDS = frozenset({"publish_context", "sealed_connection"})
# CSI spec, VolumeCapability.MountVolume: they "MAY contain sensitive information".
_MOUNT_FLAGS = "mount_flags"
_LABEL = re.compile(r"(?:fs|def|root)?context$")

_ITEM_LIMIT = 64
"""Items of a dictionary, list or message that are shown."""
_TOTAL_LIMIT = 3 * TEXT_LIMIT
"""Bytes of all that is shown of one value."""
_DEPTH_LIMIT = 12
_SECRETS_LIMIT = MAP_LIMIT // LEAST_LENGTH
"""Secrets of a request that are kept: as many as fit into one that is not refused. A longer one is quoted nowhere."""


def redact(value: Any, *, limit: int = TEXT_LIMIT, bounded: bool = True) -> Any:
    """The value without secrets: dictionaries, lists and CSI messages are gone through, text is searched.

    ``limit``: bytes of a text that are shown. Without ``bounded``, as many items are shown as there are.
    """
    return _Walk(limit, bounded=bounded).redacted(value)


def redact_message(message: Message) -> dict[str, Any]:
    """A CSI message as a dictionary; secret fields, as csi.proto marks them, keep only their keys."""
    result: dict[str, Any] = redact(message, limit=FIELD_LIMIT)
    return result


def keep_secrets_of(request: Message) -> None:
    """Mask the values of a request's secret fields in everything from now on."""
    for field, value in request.ListFields():
        if field.GetOptions().Extensions[csi_pb2.csi_secret]:
            texts = value.values() if isinstance(value, Mapping) else texts_in(value)
            _keep(texts)
        elif field.name == "volume_capability":
            _keep(_values_of_flags(value))
        elif field.name == "volume_capabilities":
            for capability in islice(value, _ITEM_LIMIT):
                _keep(_values_of_flags(capability))


def _keep(texts: Iterable[str]) -> None:
    keep_passing_secret(text for text in islice(texts, _SECRETS_LIMIT) if len(text) <= MAP_LIMIT)


def _values_of_flags(capability: csi_pb2.VolumeCapability) -> Iterable[str]:
    """What mount flags say behind an equals sign; SELinux' labels are no secrets."""
    for flag in capability.mount.mount_flags:
        for name, _, value in (one.partition("=") for one in flag.split(",")):
            if not _LABEL.match(name):
                yield value


class _Walk:
    """One way through a value."""

    def __init__(self, limit: int, *, bounded: bool) -> None:
        self._limit = limit
        self._items = _ITEM_LIMIT if bounded else None
        self._left = _TOTAL_LIMIT
        self._bounded = bounded

    def redacted(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, bytes):
            return f"<{len(value)} bytes>"
        if self._bounded and (self._left <= 0 or depth > _DEPTH_LIMIT):
            return "[... left out ...]"
        if isinstance(value, Message):
            return self._message(value, depth)
        if isinstance(value, Mapping):
            if names_a_secret(value):
                value = {**value, "value": MASK}
            return self._mapping(value.items(), len(value), depth, secret=False)
        if isinstance(value, list | tuple | set | frozenset):
            return self._list(value, len(value), depth)
        return self._text(value if isinstance(value, str) else str(value))

    def _text(self, text: str) -> str:
        shown = redact_text(text, limit=self._limit)
        self._left -= len(shown)
        return shown

    def _key(self, key: Any) -> Any:
        return redact_text(key, limit=FIELD_LIMIT) if isinstance(key, str) else key

    def _mapping(self, items: Iterable[tuple[Any, Any]], count: int, depth: int, *, secret: bool) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, item in islice(items, self._items):
            is_masked = secret or (is_secret_name(key) and _can_be_secret(item))
            result[self._key(key)] = MASK if is_masked else self.redacted(item, depth + 1)
            self._left -= 16
            if self._bounded and self._left <= 0:
                break
        if len(result) < count and self._bounded:
            result["..."] = f"{count - len(result)} more"
        return result

    def _list(self, items: Iterable[Any], count: int, depth: int) -> list[Any]:
        result = [self.redacted(item, depth + 1) for item in islice(items, self._items)]
        if len(result) < count:
            result.append(f"... {count - len(result)} more")
        return result

    def _message(self, message: Message, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for field, value in message.ListFields():
            is_map = bool(field.message_type and field.message_type.GetOptions().map_entry)
            is_secret = field.GetOptions().Extensions[csi_pb2.csi_secret] or field.name in _SECRET_FIELDS
            if is_map:
                result[field.name] = self._mapping(value.items(), len(value), depth, secret=is_secret)
            elif is_secret:
                result[field.name] = MASK
            elif field.name == _MOUNT_FLAGS:
                result[field.name] = self._list([MASK] * min(len(value), _ITEM_LIMIT), len(value), depth)
            elif field.is_repeated:
                result[field.name] = self._list(value, len(value), depth)
            else:
                result[field.name] = self.redacted(value, depth + 1)
        return result


def _can_be_secret(value: object) -> bool:
    return bool(value) and not isinstance(value, bool)
