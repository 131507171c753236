"""Ids that follow from names, so that two attempts of one request can never create two objects unnoticed.

A name that was deleted and is created again has other ids than before: nodes, and people, may still know the old ones.
So ids follow from the name and from a nonce, which is stored by create-if-absent before a name's first attempt, and
which goes before the name's last record does. Whatever a crash cuts off, either both are there or the nonce is not.
"""

import threading
import uuid

from csi_plugin.persistence.base import RecordExists, RecordStore
from csi_plugin.persistence.records import KeyValueRecord

INSTANCE_KEY = "cinderbox/instance"
_NONCE_PREFIX = "cinderbox/attempts/"


def is_valid_id(text: str) -> bool:
    """Whether an id could be one of ours; databases refuse some texts (NUL), and no such record exists."""
    return text.isprintable()


class Identifiers:
    """Ids of one installation: UUIDv5 in a namespace that is created once and kept in the store. Thread-safe."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._namespace: uuid.UUID | None = None

    @property
    def namespace(self) -> uuid.UUID:
        """The installation's namespace. Raises PersistenceError when the store cannot answer."""
        with self._lock:
            if self._namespace is None:
                self._namespace = uuid.UUID(_read_or_create(self._store, INSTANCE_KEY))
            return self._namespace

    def of_attempt(self, kind: str, name: str, generation: int) -> str:
        """Id of the object that an attempt at creating ``name`` creates; ``generation`` counts the attempts from 1.

        Stores the name's nonce; ``release`` has to follow, at last when the name's last record goes.
        """
        nonce = _read_or_create(self._store, self._nonce_key(kind, name))
        return str(uuid.uuid5(self.namespace, f"{kind}/{name}/{generation}/{nonce}"))

    def release(self, kind: str, name: str) -> None:
        """Let the name's next attempts have ids that it never had."""
        self._store.delete(KeyValueRecord(id=self._nonce_key(kind, name)))

    def of_member(self, group_snapshot_id: str, volume_id: str) -> str:
        """Id of a volume's snapshot inside a group snapshot."""
        return str(uuid.uuid5(self.namespace, f"group-snapshot-member/{group_snapshot_id}/{volume_id}"))

    def of_connection(self, volume_id: str, node_id: str) -> str:
        """Id of the connection of a volume to a node."""
        return str(uuid.uuid5(self.namespace, f"{volume_id}/{node_id}"))

    def _nonce_key(self, kind: str, name: str) -> str:
        return f"{_NONCE_PREFIX}{uuid.uuid5(self.namespace, f'{kind}/{name}')}"


def _read_or_create(store: RecordStore, key: str) -> str:
    """The random UUID in a key-value; of several callers that find none, one makes it."""
    while True:
        if (record := store.get(KeyValueRecord, key)) is None:
            try:
                record = store.create(KeyValueRecord(id=key, value=str(uuid.uuid4())))
            except RecordExists:
                continue  # and may be gone again
        if record.value is None:
            raise RuntimeError(f"the key-value {key} has no value")
        return record.value
