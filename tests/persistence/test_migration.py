"""Moving records from one plugin to another."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from csi_plugin.persistence.base import PersistenceError, RecordStore
from csi_plugin.persistence.dbms import MemoryDBPersistence
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import RECORD_TYPES, KeyValueRecord, Record, VolumeRecord
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.persistence.testing import Plugin, new_id, samples
from csi_plugin.storage.migration.copy_records import copy_records


def contents(store: RecordStore) -> list[Record]:
    return [
        replace(record, revision=0, updated_at=None, created_at=None)
        for kind in RECORD_TYPES
        for record in store.find(kind)
    ]


def test_every_record_arrives_and_a_second_run_copies_nothing(make_mariadb: Callable[[], Plugin]) -> None:
    source, target = MemoryPersistence(), make_mariadb()
    assert isinstance(target, RecordStore)
    for record in samples():
        source.create(record)
    for _ in range(250):
        source.create(VolumeRecord(id=new_id(), extra_specs={"a": "b"}))
    first = list(copy_records(source, target))
    assert sum(progress.copied for progress in last_of_each_kind(first)) == 257
    assert len(first) > len(RECORD_TYPES)
    expected = [
        replace(record, volume_type_id=record.id) if isinstance(record, VolumeRecord) and record.extra_specs else record
        for record in contents(source)
    ]
    assert contents(target) == expected
    second = last_of_each_kind(list(copy_records(source, target)))
    assert [(progress.copied, progress.skipped) for progress in second if progress.kind == "volume"] == [(0, 251)]
    assert sum(progress.copied for progress in second) == 0
    target.close()


def test_an_interrupted_copy_goes_on_and_changed_records_follow() -> None:
    class Failing(MemoryDBPersistence):
        writes = 3

        def create(self, record: Record) -> Record:
            if self.writes == 0:
                raise PersistenceError("disk full")
            self.writes -= 1
            return super().create(record)

    source, target = MemoryPersistence(), Failing()
    for record in samples():
        source.create(record)
    with pytest.raises(PersistenceError, match="disk full"):
        list(copy_records(source, target))
    target.writes = 100
    [volume] = source.find(VolumeRecord)
    source.update(replace(volume, status="error"))
    progress = {entry.kind: (entry.copied, entry.skipped) for entry in copy_records(source, target)}
    assert progress["group"] == (0, 1)
    assert progress["volume"] == (1, 0)
    assert progress["key_value"] == (1, 0)
    assert contents(target) == contents(source)


def test_secrets_are_sealed_anew() -> None:
    plain_source, plain_target = MemoryPersistence(), MemoryPersistence()
    source = SealingStore(plain_source, Sealer([b"1" * 32]))
    target = SealingStore(plain_target, Sealer([b"2" * 32]))
    for record in samples():
        source.create(record)
    list(copy_records(source, target))
    assert contents(target) == contents(source)
    [volume] = plain_target.find(VolumeRecord)
    assert Sealer.is_sealed(volume.provider_auth)


def test_an_empty_source_reports_each_kind_once() -> None:
    progress = list(copy_records(MemoryPersistence(), MemoryPersistence()))
    assert sorted(entry.kind for entry in progress) == sorted(kind.KIND for kind in RECORD_TYPES)
    assert KeyValueRecord.KIND in {entry.kind for entry in progress}


def last_of_each_kind(progress: list) -> list:
    return list({entry.kind: entry for entry in progress}.values())
