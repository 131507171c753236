"""What public programs for cinderlib do with it, and work with objects whose JSON forms a program keeps by itself."""

import pytest

import csi_plugin as cl

CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "ip": "192.0.2.7", "multipath": False}


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
