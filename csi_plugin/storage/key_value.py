"""KeyValue: a text under a key, for programs and drivers that keep something beside their volumes."""

from typing import Any, Self

from csi_plugin.persistence.records import KeyValueRecord
from csi_plugin.storage.library_state import register_class


class KeyValue:
    """A key and its value, both text. Stored and found through ``Backend.persistence``."""

    def __init__(self, key: str | None = None, value: str | None = None) -> None:
        self.key = key
        self.value = value
        self.revision = 0

    @classmethod
    def from_record(cls, record: KeyValueRecord) -> Self:
        key_value = cls(record.id, record.value)
        key_value.revision = record.revision
        return key_value

    @property
    def record(self) -> KeyValueRecord:
        return KeyValueRecord(id=self.key or "", value=self.value, revision=self.revision)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, KeyValue) and (self.key, self.value) == (other.key, other.value)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<cinderbox.KeyValue {self.key}>"


register_class(KeyValue, record_type=KeyValueRecord)
