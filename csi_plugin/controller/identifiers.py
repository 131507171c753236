"""Ids that follow from names, so that two attempts of one request can never create two objects unnoticed."""

import threading
import uuid

from csi_plugin.persistence.base import RecordExists, RecordStore
from csi_plugin.persistence.records import INSTANCE_KEY, KeyValueRecord


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
                self._namespace = self._read_or_create()
            return self._namespace

    def of_attempt(self, kind: str, name: str, generation: int) -> str:
        """Id of the object that an attempt at creating ``name`` creates; ``generation`` counts the attempts from 1."""
        return str(uuid.uuid5(self.namespace, f"{kind}/{name}/{generation}"))

    def of_member(self, group_snapshot_id: str, volume_id: str) -> str:
        """Id of a volume's snapshot inside a group snapshot."""
        return str(uuid.uuid5(self.namespace, f"group-snapshot-member/{group_snapshot_id}/{volume_id}"))

    def of_connection(self, volume_id: str, node_id: str) -> str:
        """Id of the connection of a volume to a node."""
        return str(uuid.uuid5(self.namespace, f"{volume_id}/{node_id}"))

    def _read_or_create(self) -> uuid.UUID:
        record = self._store.get(KeyValueRecord, INSTANCE_KEY)
        if record is None:
            try:
                record = self._store.create(KeyValueRecord(id=INSTANCE_KEY, value=str(uuid.uuid4())))
            except RecordExists:
                record = self._store.get(KeyValueRecord, INSTANCE_KEY)
        if record is None or record.value is None:
            raise RuntimeError(f"the key-value {INSTANCE_KEY} has no value")
        return uuid.UUID(record.value)
