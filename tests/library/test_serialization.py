"""JSON forms: they round-trip, carry what Cinder's objects have no place for, and those of cinderlib 5.2.0 load."""

import json
from pathlib import Path
from typing import Any

import pytest

import csi_plugin as cl
from csi_plugin.persistence.records import Intent, Phase
from csi_plugin.storage.library_state import STATE

DATA = Path(__file__).parent.parent / "data/cinderlib-5.2.0"
CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "multipath": False}


def fill(backend: cl.Backend) -> cl.Volume:
    """A volume with everything that a volume can have."""
    volume = backend.create_volume(
        1,
        name="full",
        metadata={"a": "b"},
        extra_specs={"c": "d"},
        qos_specs={"e": "f"},
        intent=Intent(name="claim", topology=[{"zone": "1"}]),
    )
    volume.create_snapshot("one", metadata={"g": "h"}).create_volume(name="restored")
    volume.create_snapshot("two", intent=Intent(name="snap-claim"))
    volume.connect(CONNECTOR, node_id="node-1")
    return volume


def empty_the_store() -> None:
    cl.Backend.set_persistence({"storage": "memory"})


def check_full(volume: cl.Volume, original: cl.Volume) -> None:
    assert volume.id == original.id
    assert volume.record.metadata == {"a": "b"}
    assert volume.record.extra_specs == {"c": "d"}
    assert volume.record.qos_specs == {"e": "f"}
    assert (volume.intent.name, volume.intent.phase, volume.intent.topology) == ("claim", Phase.READY, [{"zone": "1"}])
    assert volume.status == "in-use"
    snapshots = {found.name: found for found in volume.snapshots}
    assert set(snapshots) == {"one", "two"}
    assert snapshots["one"].record.metadata == {"g": "h"}
    assert snapshots["two"].intent.name == "snap-claim"
    assert all(found.volume.id == volume.id for found in volume.snapshots)
    connection = volume.connections[0]
    assert connection.node_id == "node-1"
    assert connection.connector_info == CONNECTOR
    assert connection.conn_info == original.connections[0].conn_info


def test_everything_round_trips(backend: cl.Backend) -> None:
    original = fill(backend)
    text = cl.dumps()
    assert json.loads(text) == cl.dump()
    empty_the_store()
    assert backend.volumes == []

    assert cl.load(text) == [backend]
    assert backend.volumes == cl.Backend.persistence.get_volumes() == []  # nothing is stored unless it is asked for
    check_full(cl.load(original.dumps), original)

    assert cl.load(json.loads(text), save=True) == [backend]
    backend.refresh()
    assert {found.name for found in backend.volumes} == {"full", "restored"}
    check_full(cl.Volume.get_by_id(original.id), original)
    assert cl.Snapshot.get_by_name("one")[0].volume.id == original.id
    assert cl.Connection.get_by_id(original.connections[0].id).volume.id == original.id

    assert cl.load(text, save=True) == [backend]  # over what is there
    check_full(cl.Volume.get_by_id(original.id), original)


def test_each_object_by_itself(backend: cl.Backend) -> None:
    volume = fill(backend)
    for resource in (volume, volume.snapshots[0], volume.connections[0]):
        for form in (resource.json, resource.jsons, resource.dump, resource.dumps):
            loaded = cl.load(form)
            assert type(loaded) is type(resource)
            assert loaded.id == resource.id
            assert loaded.backend is backend
            assert loaded.record == loaded.record
        for form in (resource.json, resource.jsons):
            assert type(resource).load(form).id == resource.id
    with pytest.raises(ValueError, match="JSON form of a Volume, not of a Snapshot"):
        cl.Snapshot.load(volume.json)
    assert cl.load(backend.jsons) is backend
    assert cl.Backend.load(backend.dumps) is backend
    assert cl.load(volume.snapshots[0].dumps).volume.id == volume.id
    assert [type(found) for found in cl.load([volume.json, volume.snapshots[0].json])] == [cl.Volume, cl.Snapshot]


def test_a_loaded_object_works(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1)
    text = volume.dumps
    empty_the_store()
    loaded = cl.load(text, save=True)
    loaded.extend(2)
    snapshot = loaded.create_snapshot("s")
    assert [found.id for found in loaded.snapshots] == [snapshot.id]
    snapshot.delete()
    loaded.delete()
    assert files() == set()


@pytest.mark.parametrize("stored", [True, False])
def test_an_object_that_was_loaded_but_not_stored(backend: cl.Backend, files: Any, stored: bool) -> None:
    """How programs use the library that keep the JSON forms themselves: what such an object stores replaces all."""
    volume = backend.create_volume(1, name="a")
    text = volume.dumps
    volume._ovo.display_name = "b"
    volume.save()
    if not stored:
        empty_the_store()
    loaded = cl.load(text)
    loaded.extend(2)
    assert cl.Volume.get_by_id(loaded.id).name == "a"
    assert cl.Volume.get_by_id(loaded.id).size == 2
    again = cl.load(loaded.dumps)
    again.delete()
    assert files() == set()
    assert cl.Backend.persistence.get_volumes() == []


def test_groups_round_trip(memory_backend: cl.Backend) -> None:
    volume = memory_backend.create_volume(1)
    group = memory_backend.create_group(name="set", volumes=[volume], group_specs={"a": "b"})
    taken = group.create_snapshot("moment")
    texts = [volume.dumps, group.dumps, taken.dumps]
    empty_the_store()
    for text in texts:
        cl.load(text, save=True)
    assert cl.Group.get_by_id(group.id).group_specs == {"a": "b"}
    assert [found.id for found in cl.Group.get_by_id(group.id).volumes] == [volume.id]
    assert cl.GroupSnapshot.get_by_id(taken.id).name == "moment"


def test_an_unknown_class(memory_backend: cl.Backend) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        cl.load({"class": "os", "backend": {"volume_backend_name": "loop"}, "ovo": {}})


def test_an_object_of_a_backend_that_is_not_set_up(memory_backend: cl.Backend) -> None:
    form = memory_backend.create_volume(1).json
    memory_backend.close()
    with pytest.raises(LookupError, match="not present"):
        cl.load(form)


def test_the_whole_configuration(memory_backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = memory_backend.create_volume(1)
    monkeypatch.setattr(STATE, "output_all_backend_info", True)
    text = memory_backend.dumps
    memory_backend.close()
    empty_the_store()

    loaded = cl.load(text, save=True)

    assert loaded.id == "loop"
    assert loaded is not memory_backend
    assert [found.id for found in loaded.volumes] == [volume.id]
    cl.Volume.get_by_id(volume.id).delete()
    loaded.close()


@pytest.mark.parametrize(
    ("name", "qos_specs"),
    # What cinderlib read back from its database had lost the QoS specs.
    [("dumps.json", {}), ("dumps-all-backend-info.json", {"maxIOPS": "500"})],
)
def test_dumps_of_cinderlib(persistence: Any, new_backend: Any, name: str, qos_specs: dict[str, str]) -> None:
    backend = new_backend("legacy")
    text = (DATA / name).read_text()

    assert cl.load(text, save=True) == [backend]

    for volumes in (backend.volumes, persistence.get_volumes(backend_name="legacy")):
        by_name = {found.name: found for found in volumes}
        assert set(by_name) == {"first", "typed", "restored", "cloned"}
        assert [found.name for found in by_name["first"].snapshots] == ["snap1"]
        assert by_name["restored"].snapshot_id == by_name["first"].snapshots[0].id
        assert by_name["cloned"].source_volid == by_name["typed"].id
        typed = by_name["typed"].record
        assert typed.extra_specs == {"compression": "on"}
        assert typed.qos_specs == qos_specs
        assert typed.metadata == {"owner": "app"}
        connection = by_name["first"].connections[0]
        assert connection.conn_info["data"]["auth_password"] == "oldsecret"
        assert connection.connected
        assert connection.volume.id == by_name["first"].id
    assert cl.Connection.get_by_id(connection.id).conn_info == connection.conn_info


def test_a_volume_of_cinderlib(memory: None, new_backend: Any) -> None:
    backend = new_backend("legacy")
    volume = cl.load((DATA / "volume.json").read_text(), save=True)
    assert (volume.name, volume.backend) == ("first", backend)
    assert cl.Volume.get_by_id(volume.id).snapshots[0].volume.name == "first"
    again = cl.load(cl.Volume.get_by_id(volume.id).dumps)
    assert again.record.display_name == "first"


@pytest.mark.cinderlib("JSON")
def test_our_dumps_have_the_parts_that_cinderlib_reads(memory_backend: cl.Backend) -> None:
    """cinderlib hands ``ovo`` to Cinder, which reads these four keys and passes over others."""
    fill(memory_backend)
    ours = cl.dump()[0]
    theirs = json.loads((DATA / "dumps.json").read_text())[0]
    assert set(ours) == set(theirs)
    assert set(ours["volumes"][0]) == set(theirs["volumes"][0])
    written = {found["ovo"]["versioned_object.data"]["display_name"]: found["ovo"] for found in ours["volumes"]}["full"]
    read = theirs["volumes"][0]["ovo"]
    assert set(written) - {"cinderbox.data"} == set(read) - {"cinderlib.data"}
    shared = set(read["versioned_object.data"])
    assert shared <= set(written["versioned_object.data"])
