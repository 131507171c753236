"""Copies all records from one store to another, so that a user can change plugins."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.encoding import to_json
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    NodeRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.persistence.sealing import SealingStore, check_opened

ORDER: tuple[type[Record], ...] = (
    GroupRecord,
    VolumeRecord,
    GroupSnapshotRecord,
    SnapshotRecord,
    ConnectionRecord,
    NodeRecord,
    KeyValueRecord,
)
"""Each kind after those that it refers to, as foreign keys want it."""

_PAGE = 100


@dataclass(frozen=True)
class Progress:
    """How far a copy is with one kind of record."""

    kind: str
    copied: int
    """Records written so far, new or changed."""
    skipped: int
    """Records that the target had already."""
    total: int | None = None
    """How many there are, where that is known beforehand."""


def copy_records(source: RecordStore, target: RecordStore) -> Iterator[Progress]:
    """Copy every record of ``source`` to ``target``; yields after each page of a kind, at least once per kind.

    It can be interrupted and run again: what the target has already is skipped, what differs is overwritten. Records
    that only the target has stay. Nothing else should write to either store meanwhile. Secrets are sealed again when
    both stores are given as SealingStore, each with its own keys.

    Raises PersistenceError.
    """
    for kind in ORDER:
        copied = skipped = 0
        last: str | None = None
        while True:
            page = source.find(kind, after=last, limit=_PAGE)
            for record in page:
                if isinstance(source, SealingStore):
                    check_opened(record)
                if _copy(record, target):
                    copied += 1
                else:
                    skipped += 1
            yield Progress(kind.KIND, copied, skipped)
            if len(page) < _PAGE:
                break
            last = page[-1].id


def _copy(record: Record, target: RecordStore) -> bool:
    present = target.get(type(record), record.id)
    if present is None:
        target.create(record)
    elif _content(present) != _content(record):
        target.update(replace(record, revision=present.revision))
    else:
        return False
    return True


def _content(record: Record) -> dict[str, Any]:
    """What makes two copies of a record equal: not the store's own counters, and times as SQL servers keep them."""
    record = replace(record, revision=0, created_at=None, updated_at=None)
    content = to_json(record)
    for name, value in content.items():
        if isinstance(getattr(record, name), datetime):
            content[name] = value[:19]
    if isinstance(record, VolumeRecord) and record.volume_type_id in (None, record.id):
        content["volume_type_id"] = None  # the db plugin gives a volume with specs a type of its own
    return content
