"""Rules of the CSI spec that hold for requests of every service; each breach is INVALID_ARGUMENT naming the field."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from csi_plugin.protocol import csi_pb2, mount_rules
from csi_plugin.protocol.errors import invalid_argument

STRING_LIMIT = 128
"""Bytes of a string field (CSI spec, "Size Limits")."""
MAP_LIMIT = 4096
"""Bytes of all keys and values of a map, and of all mount flags."""
NODE_ID_LIMIT = 256
"""Bytes (CSI spec, NodeGetInfoResponse.node_id)."""
PATH_LIMIT = 4095
"""Bytes of a path: Linux' PATH_MAX, without the zero at the end."""

_LIMITS = {
    "node_id": NODE_ID_LIMIT,
    "staging_target_path": PATH_LIMIT,
    "target_path": PATH_LIMIT,
    "volume_path": PATH_LIMIT,
    "volume_publish_path": PATH_LIMIT,
    "mount_flags": MAP_LIMIT,
}
_UNLIMITED = {"publish_context"}
"""Ours: sealed connection information, which can be longer than a map may be."""

# CSI spec, CreateVolumeRequest.name: U+0000-U+0008, U+000B, U+000C, U+000E-U+001F, U+007F-U+009F.
_BANNED = frozenset(map(chr, (*range(0x9), 0xB, 0xC, *range(0xE, 0x20), *range(0x7F, 0xA0))))


def check_sizes(request: Message, *, within: str = "") -> None:
    """Refuse strings and maps that are longer than the spec allows, at any depth of the request."""
    for field, value in request.ListFields():
        name = f"{within}{field.name}"
        if field.name in _UNLIMITED:
            continue
        if _is_map(field):
            _check_length(
                name, sum(len(key.encode()) + len(str(item).encode()) for key, item in value.items()), MAP_LIMIT
            )
        elif field.type == FieldDescriptor.TYPE_STRING:
            texts = value if field.is_repeated else [value]
            limit = _LIMITS.get(field.name, STRING_LIMIT)
            longest = sum if field.name == "mount_flags" else max
            _check_length(name, longest(len(text.encode()) for text in texts), limit)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for message in value if field.is_repeated else [value]:
                check_sizes(message, within=f"{name}.")


def require(request: Message, *fields: str) -> None:
    """Refuse a request in which one of the fields is not set or empty."""
    present = {field.name for field, _ in request.ListFields()}
    for name in fields:
        if name not in present:
            raise invalid_argument(f"{name} is required")


def check_name(name: str, *, field: str) -> None:
    """Refuse the control characters that the spec bans from names."""
    if banned := sorted(_BANNED.intersection(name)):
        raise invalid_argument(f"{field} must not contain the control character U+{ord(banned[0]):04X}")


def check_capability(capability: csi_pb2.VolumeCapability, *, field: str) -> None:
    """Refuse a capability without access type, without access mode, with a mode that this version does not know, and
    with a filesystem or mount flags that no node allows."""
    if capability.WhichOneof("access_type") is None:
        raise invalid_argument(f"{field}: access type is required, block or mount")
    mode = capability.access_mode.mode
    known: Any = csi_pb2.VolumeCapability.AccessMode.Mode
    if mode == csi_pb2.VolumeCapability.AccessMode.UNKNOWN or mode not in known.values():
        allowed = ", ".join(name for name, number in known.items() if number)
        raise invalid_argument(f"{field}: access_mode.mode is required, one of {allowed}")
    if capability.HasField("mount"):
        mount_rules.check_mount(capability.mount, field=f"{field}.mount")


def fit(text: str, limit: int = STRING_LIMIT) -> str:
    """A text for people, cut to what a field of an answer may have."""
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "..."


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _check_length(name: str, length: int, limit: int) -> None:
    if length > limit:
        raise invalid_argument(f"{name} must have at most {limit} bytes, not {length}")
