"""What public programs for cinderlib do with it, and work with objects whose JSON forms a program keeps by itself."""

from typing import Any

import pytest

import csi_plugin as cl

CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "ip": "192.0.2.7", "multipath": False}


@pytest.fixture
def elsewhere(backend: cl.Backend, new_backend: Any) -> Any:
    """Gives an object as another program gets it, that has its JSON form and another store."""

    def load(*known: Any) -> Any:
        texts = [each.dumps for each in known]
        for kind, records in (
            ("connection", "get_connections"),
            ("snapshot", "get_snapshots"),
            ("volume", "get_volumes"),
        ):
            for stored in getattr(cl.Backend.persistence, records)():
                getattr(cl.Backend.persistence, f"delete_{kind}")(stored)
        backend.refresh()
        loaded = [cl.load(text) for text in texts]
        assert backend.volumes == []
        return loaded[0] if len(loaded) == 1 else loaded

    return load


def test_objects_can_always_be_shown(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """repr() neither raises nor reads: programs log objects where something went wrong."""
    volume = backend.create_volume(1)
    snapshot, connection = volume.create_snapshot("s"), volume.connect(CONNECTOR)
    again = cl.Connection.get_by_id(connection.id)
    nowhere = cl.Connection(None, volume_id=cl.Volume.new_uuid())
    shown = [volume, snapshot, connection, again, nowhere, cl.Connection(None), cl.Volume(backend), cl.KeyValue()]
    shown += [object.__new__(kind) for kind in (cl.Volume, cl.Snapshot, cl.Connection, cl.Group, cl.GroupSnapshot)]
    connection.disconnect()
    snapshot.delete()
    volume.delete()
    monkeypatch.setattr("csi_plugin.storage.library_state.STATE.store", None)
    for each in shown:
        assert type(each).__name__ in repr(each) == str(each)
    assert f" of volume {nowhere.volume_id}>" in repr(nowhere)
    assert f"{volume.id} on backend loop>" in repr(volume)


def test_arguments_have_cinderlibs_names(backend: cl.Backend) -> None:
    volume = backend.create_volume(size=1, name="a", description="", bootable=False, pool_name=None)
    snapshot, connection = volume.create_snapshot(name="s", description=""), volume.connect(connector_dict=CONNECTOR)
    assert cl.Volume.get_by_id(volume_id=volume.id) == cl.Volume.get_by_name(volume_name="a")[0] == volume
    assert cl.Snapshot.get_by_id(snapshot_id=snapshot.id) == cl.Snapshot.get_by_name(snapshot_name="s")[0] == snapshot
    assert cl.Connection.get_by_id(connection_id=connection.id) == connection
    assert cl.Volume.load(json_src=volume.json, save=False) == volume


@pytest.mark.cinderlib("status `deleted` that a program sets")
def test_a_volume_that_its_program_marked_as_deleted(backend: cl.Backend, files: Any) -> None:
    """ember-csi marks a volume that has snapshots, and deletes it with the last of them."""
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("s")
    volume._ovo.status = "deleted"
    volume.save()
    snapshot = cl.Snapshot.get_by_id(snapshot.id)
    snapshot.delete()
    assert (snapshot.volume.status, snapshot.volume.snapshots) == ("deleted", [])
    snapshot.volume.delete()
    assert files() == set()
    assert cl.Backend.persistence.get_volumes() == []
    snapshot.volume.delete()  # once more is no error


@pytest.mark.cinderlib("work with what was loaded without `save`")
def test_what_is_loaded_without_save_is_worked_with(backend: cl.Backend, elsewhere: Any, files: Any) -> None:
    """cinderlib's first users kept the JSON forms themselves."""
    made = [backend.create_volume(1, name=name) for name in "abcd"]
    taken, exported = made[0].create_snapshot("s"), made[1].connect(CONNECTOR)
    snapshot, connection, third, fourth = elsewhere(taken, exported, made[2], made[3])

    restored = snapshot.create_volume(name="restored")
    assert restored.snapshot_id == taken.id
    snapshot.delete()
    assert snapshot.volume.snapshots == []
    connection.disconnect()
    assert (connection.volume.status, connection.volume.connections) == ("available", [])
    again = third.connect(CONNECTOR)
    assert (third.status, third.connections) == ("in-use", [again])
    again.disconnect()
    copied = fourth.create_snapshot("t")
    assert copied.volume is fourth
    copied.delete()
    for volume in (snapshot.volume, connection.volume, third, fourth, restored):
        volume.delete()
    assert files() == set()
    assert backend.volumes == []


def test_a_loaded_volume_is_not_deleted_under_its_snapshots(backend: cl.Backend, elsewhere: Any, files: Any) -> None:
    volume = backend.create_volume(1)
    volume.create_snapshot("s")
    before = files()
    loaded = elsewhere(volume)
    with pytest.raises(cl.exception.InvalidVolume, match="snapshots"):
        loaded.delete()
    with pytest.raises(cl.exception.InvalidVolume, match="snapshots"):
        loaded.unmanage()
    assert files() == before
    loaded.snapshots[0].delete()
    loaded.delete()
    assert files() == set()
