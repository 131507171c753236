"""Removal of secrets from what is logged, at the one place that every log line passes.

Three nets: values under telling names, in dictionaries and messages; telling shapes inside text, since drivers log
whole dictionaries, command lines and URLs as text; and values that are known to be secret, wherever they are.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import Message

from csi_plugin.protocol import csi_pb2

MASK = "***"

_SECRET_WORDS = (
    r"pass(?:word|wd|phrase)?|secret\w*|token|keyring|credential\w*|auth_password|chap\w*|api_?key|private_?key|"
    r"encryption_?key|provider_auth|sealing_?keys?|authorization|cookie"
)
_SECRET_NAME = re.compile(rf"(?:^|[._-])\w*(?:{_SECRET_WORDS})(?:$|[._-])|(?:{_SECRET_WORDS})$", re.IGNORECASE)
# Names that sound secret and are not: what they hold helps to understand a log.
_HARMLESS = re.compile(
    r"(?:starting|next|page)_?token$|_(?:type|method|id|file|path|file_path)$|^encryption_key_id$", re.I
)

# What the specification does not mark: how a node gets at a volume, which is nobody else's business.
_SECRET_FIELDS = frozenset({"publish_context", "sealed_connection"})

_IN_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    # Authorization: Basic x, Bearer x; before what would take the first word for the secret
    (re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {MASK}"),
    # {'auth_password': 'x'}, "password": "x", password=x, password: x
    (
        re.compile(
            rf"""(['"]?\b[\w.-]*(?:{_SECRET_WORDS})['"]?\s*[:=]\s*(?:[ub](?=['"]))?)("[^"]*"|'[^']*'|[^\s,;&}})\]]+)""",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # --password x, --os-password=x
    (re.compile(rf"(--?[\w-]*(?:{_SECRET_WORDS})(?:\s+|=))('[^']*'|\"[^\"]*\"|\S+)", re.IGNORECASE), rf"\1{MASK}"),
    # iscsiadm ... -n node.session.auth.password -v x
    (re.compile(r"(auth\.password(?:_in)?['\",\s]+(?:-v|--value)['\",\s]+)([^\s'\",]+)", re.IGNORECASE), rf"\1{MASK}"),
    # CHAP user password, as drivers keep it in provider_auth; IncomingUser user password, as targets are told it
    (
        re.compile(r"\b((?:CHAP|(?i:(?:incoming|outgoing)user)=?)\s+[^\s,;()'\"]+\s+)([^\s'\",}]+)"),
        rf"\1{MASK}",
    ),
    # cinder-rtstool create device target user password; cinder-rtstool add-initiator target user password initiator
    (
        re.compile(
            r"(cinder-rtstool['\",\s]+(?:create['\",\s]+[^\s'\",]+|add-initiator)(?:['\",\s]+[^\s'\",]+){2}['\",\s]+)([^\s'\",]+)"
        ),
        rf"\1{MASK}",
    ),
    # scheme://user:password@host
    (re.compile(r"(\b[a-z][\w+.-]*://[^\s:/@'\"]*:)([^\s/'\"]+)(?=@)", re.IGNORECASE), rf"\1{MASK}"),
    # cephx keys have a shape of their own
    (re.compile(r"\bAQ[A-Za-z0-9+/]{36,}={0,2}"), MASK),
    # private keys
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), MASK),
)


_LEAST_LENGTH = 6
"""Shorter values would mask parts of words all over a log."""
_known: frozenset[str] = frozenset()


def keep_secret(values: Iterable[str]) -> None:
    """Mask these values in everything from now on, unless they are too short to be told from words."""
    global _known
    _known |= {value for value in values if len(value) >= _LEAST_LENGTH}


def redact(value: Any) -> Any:
    """The value without secrets: dictionaries, lists and CSI messages are gone through, text is searched."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Message):
        return redact_message(value)
    if isinstance(value, Mapping):
        return {key: MASK if _is_secret(key) and _can_be_secret(item) else redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [redact(item) for item in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if value is None or isinstance(value, int | float):
        return value
    return redact_text(str(value))


def redact_text(text: str) -> str:
    """Text with the secrets masked that are known, or that its shape gives away."""
    for secret in _known:
        text = text.replace(secret, MASK)
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact_message(message: Message) -> dict[str, Any]:
    """A CSI message as a dictionary; secret fields, as csi.proto marks them, keep only their keys."""
    result: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[csi_pb2.csi_secret] or field.name in _SECRET_FIELDS:
            result[field.name] = dict.fromkeys(value, MASK) if isinstance(value, Mapping) else MASK
        elif field.message_type and field.message_type.GetOptions().map_entry:
            result[field.name] = redact(dict(value))
        elif field.type == field.TYPE_MESSAGE:
            repeated = field.is_repeated
            result[field.name] = [redact_message(item) for item in value] if repeated else redact_message(value)
        else:
            result[field.name] = redact(list(value) if field.is_repeated else value)
    return result


def _can_be_secret(value: object) -> bool:
    return bool(value) and not isinstance(value, bool)


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and bool(_SECRET_NAME.search(name)) and not _HARMLESS.search(name)
