"""Sealing of secret fields at rest: CHAP passwords, cephx keyrings and tokens never reach a plugin in clear.

AES-256-GCM under a key that stays with the controller. A sealed value is the text
``cinderbox-sealed:1:<key id>:<base64 of nonce, ciphertext and tag>``; the record's kind, id and field name
are authenticated with it, so a value copied to another record does not open. Values without that prefix are
from before a key was configured and are returned as they are; the next write seals them.
"""

import base64
import binascii
import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from csi_plugin.known_secrets import keep_secret
from csi_plugin.persistence.base import PersistenceError, RecordNotFound, RecordStore, RevisionConflict
from csi_plugin.persistence.records import RECORD_TYPES, NodeRecord, Record
from csi_plugin.persistence.wrapping_store import WrappingStore

R = TypeVar("R", bound=Record)

LOG = logging.getLogger(__name__)

KEY_LENGTH = 32
KEYS_VARIABLE = "CINDERBOX_SEALING_KEYS"
KEYS_FILE_VARIABLE = "CINDERBOX_SEALING_KEYS_FILE"

_PREFIX = "cinderbox-sealed:1:"
_NONCE_LENGTH = 12
_MOST_WARNINGS = 100


class SealingError(PersistenceError):
    """A sealed value cannot be opened: its key is not configured, or it was tampered with."""


def generate_key() -> str:
    """A new key in the form that load_keys reads: base64 of 32 random bytes."""
    return base64.b64encode(os.urandom(KEY_LENGTH)).decode()


def load_keys(path: str | Path | None = None, *, environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """The configured keys, the one that seals first; an empty list when none is configured.

    Read from ``path``, else from the file that CINDERBOX_SEALING_KEYS_FILE names, else from
    CINDERBOX_SEALING_KEYS. The text holds base64 keys of 32 bytes separated by white space; a ``#`` starts a
    comment. To rotate, put a new key in front and keep the old one until every record was written again.

    Raises ValueError for a malformed key (the key itself is not in the message) and for a file without any, and OSError
    for an unreadable file.
    """
    path = path or environment.get(KEYS_FILE_VARIABLE)
    if path:
        text, source = Path(path).read_text(encoding="ascii"), str(path)
    else:
        text, source = environment.get(KEYS_VARIABLE, ""), KEYS_VARIABLE
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    keep_secret(words)
    keys = []
    for position, word in enumerate(words, start=1):
        try:
            key = base64.b64decode(word, validate=True)
        except binascii.Error as error:
            raise ValueError(f"key {position} of {source} is not base64") from error
        if len(key) != KEY_LENGTH:
            raise ValueError(f"key {position} of {source} has {len(key)} bytes; it must have {KEY_LENGTH}")
        keys.append(key)
    if path and not keys:
        raise ValueError(
            f"{source} has no key: it must have one of {KEY_LENGTH} bytes in base64 on each line "
            f"(`head -c {KEY_LENGTH} /dev/urandom | base64` makes one); put back what a Secret had"
        )
    return keys


class Sealer:
    """Seals with the first key, opens with any. Thread-safe."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """``keys``: at least one, 32 bytes each. Raises ValueError."""
        if not keys:
            raise ValueError("keys must hold at least one key")
        for key in keys:
            if len(key) != KEY_LENGTH:
                raise ValueError(f"keys must have {KEY_LENGTH} bytes each; one has {len(key)}")
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])
        self._warned_of: set[tuple[str, str]] = set()

    @staticmethod
    def is_sealed(value: object) -> bool:
        return isinstance(value, str) and value.startswith(_PREFIX)

    def is_current(self, value: str) -> bool:
        """Whether the value was sealed with the key that seals now."""
        return value.startswith(f"{_PREFIX}{self._current}:")

    def seal(self, text: str, *, associated_data: str) -> str:
        """Encrypt text; ``associated_data`` (``kind/id/field``) is authenticated with it."""
        nonce = os.urandom(_NONCE_LENGTH)
        ciphertext = self._ciphers[self._current].encrypt(nonce, text.encode(), associated_data.encode())
        return f"{_PREFIX}{self._current}:{base64.b64encode(nonce + ciphertext).decode()}"

    def unseal(self, value: str, *, associated_data: str) -> str:
        """The text of a sealed value; one that is not sealed is returned unchanged. Raises SealingError."""
        if not self.is_sealed(value):
            return value
        key_id, _, encoded = value.removeprefix(_PREFIX).partition(":")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealingError(f"{associated_data} is sealed with key {key_id}, which is not configured")
        try:
            blob = base64.b64decode(encoded, validate=True)
            return cipher.decrypt(blob[:_NONCE_LENGTH], blob[_NONCE_LENGTH:], associated_data.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise SealingError(f"{associated_data} does not open with key {key_id}: damaged or moved") from error

    def seal_field(self, value: Any, *, associated_data: str) -> str | None:
        """Seal a secret field: text as it is, else as JSON. None and an already sealed value stay."""
        if value is None or self.is_sealed(value):
            return value  # type: ignore[no-any-return]
        return self.seal(_encode(value), associated_data=associated_data)

    def unseal_field(self, value: Any, *, associated_data: str) -> Any:
        """What seal_field was given. Raises SealingError."""
        if not self.is_sealed(value):
            return value
        return _decode(self.unseal(value, associated_data=associated_data))

    def seal_record(self, record: R) -> R:
        """A copy of the record with its SECRET fields sealed."""
        return self._with_secrets(record, self.seal_field)

    def unseal_record(self, record: R) -> R:
        """A copy of the record with its SECRET fields in clear. Raises SealingError."""
        return self._with_secrets(record, self.unseal_field)

    def open_record(self, record: R) -> R:
        """The same; one that does not open stays sealed, and a warning says so, so that others are served."""
        try:
            return self.unseal_record(record)
        except SealingError as error:
            if len(self._warned_of) < _MOST_WARNINGS and (record.KIND, record.id) not in self._warned_of:
                self._warned_of.add((record.KIND, record.id))
                LOG.warning("%s: what needs it is refused until the key is put back", error)
            return record

    def _with_secrets(self, record: R, change: Any) -> R:
        changed = {
            name: change(getattr(record, name), associated_data=f"{record.KIND}/{record.id}/{name}")
            for name in record.SECRET
            if getattr(record, name) is not None
        }
        return replace(record, **changed) if changed else record


def check_opened(record: Record) -> None:
    """Raise SealingError for a record of a SealingStore whose secrets none of the keys opens.

    Called wherever a record's secrets are used, as all is that a driver is told. Reads are not: one record that does
    not open shall not keep those of all others from being served.
    """
    for name in record.SECRET:
        if Sealer.is_sealed(value := getattr(record, name)):
            key_id = value.removeprefix(_PREFIX).partition(":")[0]
            volume_id = getattr(record, "volume_id", None)
            of_volume = f" (of volume {volume_id})" if volume_id else ""
            raise SealingError(
                f"{name} of {record.KIND} {record.id}{of_volume} is sealed with key {key_id} and opens with none of "
                "the sealing keys that are configured: put the key back that was taken out, as the last one"
            )


class SealingStore(WrappingStore):
    """A store whose secret fields are sealed before the inner store sees them, and opened on the way back.

    A record that none of the keys opens is read, and written, as it is: see check_opened.
    """

    def __init__(self, inner: RecordStore, sealer: Sealer) -> None:
        super().__init__(inner)
        self.sealer = sealer
        inner.use_sealer(sealer)

    def create(self, record: R) -> R:
        return self.sealer.open_record(self.inner.create(self.sealer.seal_record(record)))

    def update(self, record: R) -> R:
        return self.sealer.open_record(self.inner.update(self.sealer.seal_record(record)))

    def get(self, kind: type[R], record_id: str) -> R | None:
        record = self.inner.get(kind, record_id)
        return None if record is None else self.sealer.open_record(record)

    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        return [self.sealer.open_record(found) for found in self.inner.find(kind, after=after, limit=limit, **keys)]

    def find_any(self, kind: type[R], key: str, values: Iterable[str]) -> list[R]:
        return [self.sealer.open_record(found) for found in self.inner.find_any(kind, key, values)]

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        return [self.sealer.open_record(found) for found in self.inner.nodes_named(names)]

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        return [self.sealer.open_record(found) for found in self.inner.nodes_silent_since(moment)]

    def reseal(self) -> int:
        """Seal with the first key what is in clear or sealed with another; the number of records written.

        Afterwards the other keys are not needed any more. Records may be used meanwhile. Raises SealingError at the end
        where a record opens with none of the keys.
        """
        written = 0
        unopened: SealingError | None = None
        for kind in (kind for kind in RECORD_TYPES if kind.SECRET):
            for stale in (record for record in self.inner.find(kind) if not self._is_current(record)):
                while (record := self.get(kind, stale.id)) is not None:
                    try:
                        check_opened(record)
                        self.update(record)
                    except SealingError as error:
                        unopened = error
                        break
                    except (RevisionConflict, RecordNotFound):
                        continue  # someone else wrote it, maybe with the new key: look again
                    written += 1
                    break
        if unopened is not None:
            raise unopened
        return written

    def _is_current(self, record: Record) -> bool:
        values = [getattr(record, name) for name in record.SECRET]
        return all(value is None or (Sealer.is_sealed(value) and self.sealer.is_current(value)) for value in values)


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"cinderbox sealing key id" + key).hexdigest()[:16]


def _encode(value: Any) -> str:
    """Text is marked with ``t``, JSON with ``j``, so that text which looks like JSON stays text."""
    return f"t{value}" if isinstance(value, str) else f"j{json.dumps(value, separators=(',', ':'))}"


def _decode(text: str) -> Any:
    return json.loads(text[1:]) if text[:1] == "j" else text[1:]
