"""Sealing of secret fields: keys, rotation, what a plugin gets to see."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.dbms import DBPersistence
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import ConnectionRecord, SnapshotRecord, VolumeRecord
from csi_plugin.persistence.sealing import (
    Sealer,
    SealingError,
    SealingStore,
    check_opened,
    generate_key,
    load_keys,
)
from csi_plugin.persistence.testing import Plugin, new_id, samples

OLD, NEW = b"o" * 32, b"n" * 32
SECRET = "S3cretChapPassw0rd"


def store_secrets(store: RecordStore) -> list[VolumeRecord | SnapshotRecord | ConnectionRecord]:
    volume = store.create(VolumeRecord(id=new_id(), provider_auth=f"CHAP user {SECRET}"))
    snapshot = store.create(SnapshotRecord(id=new_id(), volume_id=volume.id, provider_auth=f"CHAP user {SECRET}"))
    info = {"conn": {"data": {"auth_password": SECRET, "keyring": f"[client]\nkey = {SECRET}"}}}
    return [volume, snapshot, store.create(ConnectionRecord(id=new_id(), volume_id=volume.id, connection_info=info))]


def test_the_plugin_sees_sealed_secrets_only() -> None:
    plugin = MemoryPersistence()
    store = SealingStore(plugin, Sealer([OLD]))
    for record in store_secrets(store):
        assert SECRET in repr(record)
        assert store.get(type(record), record.id) == record
        inside = plugin.get(type(record), record.id)
        assert SECRET not in repr(inside)
        assert Sealer.is_sealed(getattr(inside, record.SECRET[0]))
        assert inside == replace(record, **{record.SECRET[0]: getattr(inside, record.SECRET[0])})


def test_the_same_secret_never_looks_the_same() -> None:
    sealer = Sealer([OLD])
    assert sealer.seal("a", associated_data="c") != sealer.seal("a", associated_data="c")


def test_no_secret_in_a_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    store = SealingStore(DBPersistence(f"sqlite:///{path}"), Sealer([OLD]))
    for record in store_secrets(store):
        store.update(record)
    while_open = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    store.close()
    with sqlite3.connect(path) as connection:
        dump = "\n".join(connection.iterdump())
    assert "cinderbox-sealed:1:" in dump
    for content in (while_open.decode(errors="replace"), path.read_bytes().decode(errors="replace"), dump):
        assert SECRET not in content


def test_without_a_key_the_database_is_as_cinderlib_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    store = DBPersistence(f"sqlite:///{path}")
    volume, *_ = store_secrets(store)
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT provider_auth FROM volumes WHERE id = ?", (volume.id,)).fetchone() == (
            f"CHAP user {SECRET}",
        )


def test_no_secret_in_mariadb(make_mariadb: Callable[[], Plugin], mariadb, mariadb_url: str) -> None:
    plugin = make_mariadb()
    assert isinstance(plugin, RecordStore)
    store = SealingStore(plugin, Sealer([OLD]))
    for record in store_secrets(store):
        store.update(record)
    content = mariadb.content(mariadb_url)
    store.close()
    assert "cinderbox-sealed:1:" in content
    assert SECRET not in content
    for file in (mariadb.directory / "data").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("make", [MemoryPersistence, None])
def test_rotation(make: Callable[[], RecordStore] | None, tmp_path: Path) -> None:
    plugin = make() if make else DBPersistence(f"sqlite:///{tmp_path}/records.sqlite")
    records = store_secrets(SealingStore(plugin, Sealer([OLD])))
    rotated = SealingStore(plugin, Sealer([NEW, OLD]))
    only_new = SealingStore(plugin, Sealer([NEW]))
    for record in records:
        assert rotated.get(type(record), record.id) == record
        unopened = only_new.get(type(record), record.id)
        assert unopened == plugin.get(type(record), record.id)
        with pytest.raises(SealingError, match="opens with none of the sealing keys"):
            check_opened(unopened)
        assert only_new.update(unopened) == plugin.get(type(record), record.id)  # sealed with the old key, as it was
        with pytest.raises(SealingError, match="opens with none of the sealing keys"):
            only_new.reseal()
        record.revision += 1
        rotated.update(record)
        assert getattr(only_new.get(type(record), record.id), record.SECRET[0]) == getattr(record, record.SECRET[0])
    plugin.close()


def test_resealing_makes_old_keys_superfluous() -> None:
    plugin = MemoryPersistence()
    records = store_secrets(plugin) + store_secrets(SealingStore(plugin, Sealer([OLD])))
    rotated = SealingStore(plugin, Sealer([NEW, OLD]))
    assert rotated.reseal() == len(records) == 6
    assert rotated.reseal() == 0
    only_new = SealingStore(plugin, Sealer([NEW]))
    for record in records:
        found = only_new.get(type(record), record.id)
        assert getattr(found, record.SECRET[0]) == getattr(record, record.SECRET[0])


def test_records_from_before_there_was_a_key_are_read_and_sealed_at_the_next_write() -> None:
    plugin = MemoryPersistence()
    sealer = Sealer([OLD])
    store = SealingStore(plugin, sealer)
    for record in store_secrets(plugin):
        assert store.get(type(record), record.id) == record
        updated = store.update(record)
        assert getattr(updated, record.SECRET[0]) == getattr(record, record.SECRET[0])
        assert SECRET not in repr(plugin.get(type(record), record.id))


def test_a_sealed_value_opens_only_where_it_belongs(caplog: pytest.LogCaptureFixture) -> None:
    plugin = MemoryPersistence()
    store = SealingStore(plugin, Sealer([OLD]))
    volume, *_ = store_secrets(store)
    sealed = plugin.get(VolumeRecord, volume.id)
    assert sealed is not None
    moved = plugin.create(VolumeRecord(id=new_id(), provider_auth=sealed.provider_auth))
    assert store.get(VolumeRecord, moved.id) == moved
    damaged = f"{sealed.provider_auth[:-6]}AAAA=="
    plugin.update(replace(sealed, provider_auth=damaged))
    for found in store.find(VolumeRecord):
        with pytest.raises(SealingError, match=found.id):
            check_opened(found)
    assert len(caplog.messages) == 2
    assert all("damaged or moved" in message for message in caplog.messages)


def test_text_that_looks_like_json_stays_text() -> None:
    sealer = Sealer([OLD])
    for value in ('{"a": 1}', "", "null", {"a": [1, None]}, {}, "plain"):
        assert sealer.unseal_field(sealer.seal_field(value, associated_data="c"), associated_data="c") == value
    assert sealer.seal_field(None, associated_data="c") is None


def test_keys_from_a_file_or_the_environment(tmp_path: Path) -> None:
    first, second = generate_key(), generate_key()
    file = tmp_path / "keys"
    file.write_text(f"# newest first\n{first}  # since May\n\n{second}\n")
    assert len(load_keys(file)) == 2
    assert load_keys(file) == load_keys(environment={"CINDERBOX_SEALING_KEYS": f"{first} {second}"})
    assert load_keys(file) == load_keys(environment={"CINDERBOX_SEALING_KEYS_FILE": str(file)})
    assert load_keys(environment={}) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not base64!", "key 1 of .* is not base64"),
        ("YWJj", "key 1 of .* has 3 bytes"),
        ("\n", "/keys has no key"),
        ("# none\n", "/keys has no key"),
    ],
)
def test_malformed_keys_are_refused_without_showing_them(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_keys(file)
    assert text.strip() == "" or text not in str(caught.value)
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer([b"short"])
    with pytest.raises(ValueError, match="at least one key"):
        Sealer([])


def test_every_kind_passes_through_unharmed() -> None:
    store = SealingStore(MemoryPersistence(), Sealer([os.urandom(32)]))
    for record in samples():
        created = store.create(record)
        assert created == replace(record, revision=1, created_at=created.created_at)
        assert store.find(type(record)) == [created]


def test_a_sealed_store_answers_as_the_one_behind_it() -> None:
    """A method that it does not pass on is answered by RecordStore's default: a watch that lost touch was current."""
    own = {"wanted_keys"}  # a rule about kinds of records, which is the same everywhere
    public = {name for name in vars(RecordStore) if not name.startswith("_") and callable(getattr(RecordStore, name))}
    passed_on = {
        name for kind in SealingStore.__mro__[: SealingStore.__mro__.index(RecordStore)] for name in vars(kind)
    }
    assert public - own - passed_on == set()


def test_a_sealed_store_is_not_more_current_than_the_one_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MemoryPersistence()
    store = SealingStore(inner, Sealer([NEW]))
    assert store.is_current()
    monkeypatch.setattr(inner, "is_current", lambda: False)
    assert not store.is_current()
