"""A third party's plugin with just the thirteen methods: the toy plugin, which keeps what objects serialise to."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence import registry
from csi_plugin.persistence.base import PersistenceDriverBase
from csi_plugin.persistence.records import ConnectionRecord, KeyValueRecord, SnapshotRecord, VolumeRecord
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.persistence.testing import (
    ObjectContract,
    Plugin,
    RecordContract,
    new_id,
    open_store,
    samples,
    set_up_library,
)
from tests.support.processes import run_programs

TOY = Path(__file__).parent.parent / "toy_plugin"
SECRET = "S3cretChapPassw0rd"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return set_up_library(monkeypatch, tmp_path)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy plugin's distribution, with its entry point, on the path."""
    monkeypatch.syspath_prepend(str(TOY))
    yield
    sys.modules.pop("cinderbox_toy", None)


@pytest.fixture
def make_toy(tmp_path: Path) -> Callable[[], Any]:
    return lambda: registry.load_plugin({"storage": "toy", "location": tmp_path / "toy"})


class TestToyRecords(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_toy: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_toy


class TestToyRecordsSealed(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_toy: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return lambda: SealingStore(open_store(make_toy()), Sealer([b"k" * 32]))


class TestToyObjects(ObjectContract):
    @pytest.fixture
    def make_plugin(self, make_toy: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_toy


def test_the_plugin_holds_the_objects_too(make_toy: Callable[[], Any], library: Any) -> None:
    plugin = make_toy()
    store = open_store(plugin)
    _, volume, _, snapshot, connection, key_value, _ = [store.create(record) for record in samples()]
    assert [found.display_name for found in plugin.get_volumes(backend_name="lvm")] == [volume.display_name]
    assert [found.id for found in plugin.get_snapshots(volume_id=volume.id)] == [snapshot.id]
    assert plugin.get_connections(connection.id)[0].connection_info == connection.connection_info
    assert plugin.get_key_values(key_value.id)[0].value == key_value.value
    store.update(replace(volume, display_name="renamed"))
    assert [found.display_name for found in plugin.get_volumes()] == ["renamed"]
    for record in (connection, snapshot, volume, key_value):
        store.delete(record)
    assert plugin.get_volumes() == plugin.get_snapshots() == plugin.get_connections() == []
    store.close()


def test_objects_from_before_are_imported(
    make_toy: Callable[[], Any], library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from csi_plugin.storage.library_state import STATE

    plugin = make_toy()
    plugin.set_key_value = lambda key_value: None  # nothing of Cinderbox is in it yet
    monkeypatch.setattr(STATE, "store", open_store(plugin))
    _, volume, _, snapshot, connection, *_ = samples()
    for record in (volume, snapshot, connection):
        getattr(plugin, f"set_{record.KIND}")(library.to_object(record))
    plugin.close()
    store = open_store(make_toy())
    [found] = store.find(VolumeRecord, backend="lvm", display_name=volume.display_name)
    assert (found.id, found.revision, found.extra_specs) == (volume.id, 1, volume.extra_specs)
    assert store.update(replace(found, status="error")).revision == 2
    assert [record.id for record in store.find(SnapshotRecord, volume_id=volume.id)] == [snapshot.id]
    assert [record.id for record in store.find(ConnectionRecord, volume_id=volume.id)] == [connection.id]
    store.close()


def test_what_programs_do_with_key_values_counts(make_toy: Callable[[], Any], library: Any) -> None:
    plugin = make_toy()
    store = open_store(plugin)
    created = store.create(KeyValueRecord(id="key", value="ours"))
    plugin.set_key_value(library.to_object(KeyValueRecord(id="key", value="theirs")))
    plugin.set_key_value(library.to_object(KeyValueRecord(id="other", value="theirs")))
    assert store.get(KeyValueRecord, "key") == replace(created, value="theirs")
    assert [(record.id, record.value) for record in store.find(KeyValueRecord)] == [
        ("key", "theirs"),
        ("other", "theirs"),
    ]
    store.close()


def test_no_secret_in_what_the_plugin_stores(
    make_toy: Callable[[], Any], library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from csi_plugin.storage.library_state import STATE

    plugin = make_toy()
    store = SealingStore(open_store(plugin), Sealer([b"k" * 32]))
    monkeypatch.setattr(STATE, "store", store)
    volume = store.create(VolumeRecord(id=new_id(), host="h@lvm#p", provider_auth=f"CHAP user {SECRET}"))
    snapshot = store.create(SnapshotRecord(id=new_id(), volume_id=volume.id, backend="lvm", provider_auth=SECRET))
    info = {"conn": {"data": {"auth_password": SECRET}}}
    connection = store.create(ConnectionRecord(id=new_id(), volume_id=volume.id, connection_info=info))
    for record in (volume, snapshot, connection):
        store.update(record)
        assert SECRET in repr(store.get(type(record), record.id))
    store.close()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert b"cinderbox-sealed:1:" in content
    assert SECRET.encode() not in content


def test_a_plugin_that_is_not_ready(library: Any) -> None:
    class Broken(PersistenceDriverBase):
        def get_key_values(self, key: str | None = None) -> list[Any]:
            return []

        def get_volumes(self, *args: Any, **kwargs: Any) -> list[Any]:
            raise LookupError("Backend lvm not present")

    assert open_store(Broken()).find(VolumeRecord) == []


LIBRARY_PROGRAM = """
import os, sys
import csi_plugin as cl
from csi_plugin.storage.backend import Backend

directory, key = sys.argv[1:]
cl.setup(
    file_locks_path=directory,
    persistence_config={"storage": "toy", "location": f"{directory}/toy"},
    sealing_keys=[bytes.fromhex(key)],
)
backend = cl.Backend(
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    volume_backend_name="loop",
    loop_volumes_dir=f"{directory}/volumes",
)
if not backend.volumes:
    volume = backend.create_volume(1, name="first", extra_specs={"a": "b"})
    snapshot = volume.create_snapshot("snap")
    assert snapshot.create_volume(name="second").size == 1
    volume._ovo.provider_auth = "CHAP user S3cretChapPassw0rd"
    volume.save()
    Backend.persistence.set_key_value(cl.KeyValue("key", "value"))
else:
    volumes = {volume.name: volume for volume in backend.volumes}
    assert set(volumes) == {"first", "second"}
    first = volumes["first"]
    assert first._ovo.provider_auth == "CHAP user S3cretChapPassw0rd"
    assert first.volume_type.extra_specs == {"a": "b"}
    first.extend(2)
    assert cl.Volume.get_by_id(first.id).size == 2
    assert [snapshot.name for snapshot in first.snapshots] == ["snap"]
    assert Backend.persistence.get_key_values("key")[0].value == "value"
    first.snapshots[0].delete()
    for volume in backend.volumes:
        volume.delete()
    assert Backend.persistence.get_volumes() == []
"""


def test_the_library_on_it_in_two_processes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(LIBRARY_PROGRAM)
    for _ in range(2):
        run_programs((program, tmp_path, "6b" * 32), folder=tmp_path, environment={"PYTHONPATH": str(TOY)})
        assert SECRET.encode() not in (tmp_path / "toy").read_bytes()
