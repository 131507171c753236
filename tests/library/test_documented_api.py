"""What cinderlib documented: every method and attribute, on the loop driver with each kind of persistence."""

import json
from pathlib import Path
from typing import Any

import pytest

import csi_plugin as cl
from tests.support.csi import GIB

CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "ip": "192.0.2.7", "multipath": False}


def test_create_volume(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(2, name="first", description="of many", bootable=True)

    assert (volume.size, volume.status, volume.attach_status) == (2, "available", "detached")
    assert (volume.name, volume.description, volume.bootable) == ("first", "of many", True)
    assert (volume.user_id, volume.project_id) == (cl.DEFAULT_USER_ID, cl.DEFAULT_PROJECT_ID)
    assert volume.host == f"{backend.host}#{backend.pool_names[0]}"
    assert volume.backend is backend
    assert volume.created_at is not None
    assert files() == {volume.name_in_storage} == {f"volume-{volume.id}"}
    assert [found.id for found in backend.volumes] == [volume.id]


def test_create_in_two_steps_under_an_id_of_ones_own(backend: cl.Backend) -> None:
    wanted = cl.Volume.new_uuid()
    volume = cl.Volume(backend, size=1, id=wanted, name="mine", metadata={"a": "b"})
    assert volume.status == "creating"
    assert backend.volumes == []

    volume.create()

    assert cl.Volume.get_by_id(wanted).status == "available"
    assert cl.Volume.get_by_id(wanted).metadata == {"a": "b"}
    assert [found.id for found in backend.volumes] == [wanted]


def test_a_backend_may_be_named(backend: cl.Backend) -> None:
    volume = cl.Volume("loop", size=1)
    volume.create()
    assert volume.backend is backend


def test_a_volume_may_be_described_by_another(backend: cl.Backend) -> None:
    first = backend.create_volume(1, name="first", metadata={"a": "b"}, extra_specs={"x": "y"}, qos_specs={"iops": "5"})
    second = cl.Volume(first, size=2, name="second")
    second.create()
    assert second.id != first.id
    assert (second.size, second.name, second.host) == (2, "second", first.host)
    assert second.metadata == {"a": "b"}
    assert second.volume_type.extra_specs == {"x": "y"}
    assert second.volume_type.qos_specs.specs == {"iops": "5"}
    assert second.volume_type_id == second.id


def test_get_by_id_and_name(backend: cl.Backend) -> None:
    volumes = [backend.create_volume(1, name="twin") for _ in range(2)]
    backend.create_volume(1, name="other")

    assert cl.Volume.get_by_id(volumes[0].id).name == "twin"
    assert {found.id for found in cl.Volume.get_by_name("twin")} == {found.id for found in volumes}
    assert cl.Volume.get_by_name("nobody") == []
    with pytest.raises(cl.exception.VolumeNotFound):
        cl.Volume.get_by_id(cl.Volume.new_uuid())


def test_volumes_of_a_backend(backend: cl.Backend, new_backend: Any) -> None:
    other = new_backend("other")
    first, second = backend.create_volume(1, name="a"), backend.create_volume(1, name="b")
    elsewhere = other.create_volume(1, name="a")

    assert {found.id for found in backend.volumes} == {first.id, second.id}
    assert [found.id for found in other.volumes] == [elsewhere.id]
    assert [found.id for found in backend.volumes_filtered(volume_name="b")] == [second.id]
    assert [found.id for found in backend.volumes_filtered(volume_id=first.id)] == [first.id]
    assert backend.volumes_filtered(volume_id=elsewhere.id) == []

    first.delete()
    assert [found.id for found in backend.volumes] == [second.id]
    backend.refresh()
    assert [found.id for found in backend.volumes] == [second.id]


def test_snapshots(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1, name="source")
    snapshot = volume.create_snapshot("snap", "before", metadata={"k": "v"})

    assert (snapshot.name, snapshot.description, snapshot.status) == ("snap", "before", "available")
    assert (snapshot.volume_id, snapshot.volume_size, snapshot.metadata) == (volume.id, 1, {"k": "v"})
    assert snapshot.volume is volume
    assert volume.snapshots == [snapshot]
    assert snapshot.name_in_storage in files()

    read = cl.Snapshot.get_by_id(snapshot.id)
    assert read.volume.id == volume.id
    assert [found.id for found in cl.Snapshot.get_by_name("snap")] == [snapshot.id]
    assert [found.id for found in cl.Volume.get_by_id(volume.id).snapshots] == [snapshot.id]

    snapshot.delete()
    assert volume.snapshots == []
    assert snapshot.status == "deleted"
    assert files() == {volume.name_in_storage}
    with pytest.raises(cl.exception.SnapshotNotFound):
        read.refresh()


def test_a_volume_from_a_snapshot_and_a_clone(backend: cl.Backend, tmp_path: Path) -> None:
    volume = backend.create_volume(1, name="source", description="d")
    path = tmp_path / "loop-volumes" / volume.name_in_storage
    with path.open("r+b") as file:
        file.write(b"content")
    snapshot = volume.create_snapshot("snap")

    restored = snapshot.create_volume(name="restored")
    clone = volume.clone(size=2)

    assert (restored.size, restored.name, restored.description, restored.snapshot_id) == (
        1,
        "restored",
        "d",
        snapshot.id,
    )
    assert (clone.size, clone.name, clone.source_volid) == (2, "source", volume.id)
    for made in (restored, clone):
        file = tmp_path / "loop-volumes" / made.name_in_storage
        with file.open("rb") as opened:
            assert opened.read(7) == b"content"
        assert file.stat().st_size == made.size * GIB
        assert cl.Volume.get_by_id(made.id).status == "available"
    assert {found.id for found in backend.volumes} == {volume.id, restored.id, clone.id}


def test_extend_returns_bytes(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    assert volume.extend(3) == 3 * GIB
    assert volume.size == 3
    assert volume.status == "available"
    assert cl.Volume.get_by_id(volume.id).size == 3


def test_specs(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, extra_specs={"spec": "<is> True"}, qos_specs={"maxIOPS": "100"})
    for found in (volume, cl.Volume.get_by_id(volume.id)):
        assert found.volume_type.extra_specs == {"spec": "<is> True"}
        assert found.volume_type.qos_specs.specs == {"maxIOPS": "100"}
        assert found.volume_type.qos_specs.consumer == "back-end"
    assert backend.create_volume(1).volume_type is None


def test_connect_and_disconnect(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    connection = volume.connect(CONNECTOR)

    assert (volume.status, volume.attach_status) == ("in-use", "attached")
    assert volume.connections == [connection]
    assert connection.connected
    assert not connection.attached
    assert connection.path is None
    assert connection.protocol == "local"
    assert connection.conn_info["data"]["volume_id"] == volume.id
    assert connection.conn_info["data"]["access_mode"] == "rw"
    assert connection.connector_info == CONNECTOR
    assert connection.use_multipath is False
    assert connection.scan_attempts == 3
    assert connection.backend is backend

    read = cl.Connection.get_by_id(connection.id)
    assert read.conn_info == connection.conn_info
    assert read.connector_info == CONNECTOR
    assert read.volume.id == volume.id
    assert read.backend is backend
    assert [found.id for found in cl.Volume.get_by_id(volume.id).connections] == [connection.id]

    connection.disconnect()
    assert volume.connections == []
    assert (volume.status, volume.attach_status) == ("available", "detached")
    assert cl.Volume.get_by_id(volume.id).status == "available"
    with pytest.raises(cl.exception.ConnectionNotFound):
        cl.Connection.get_by_id(connection.id)


def test_a_consumer_finds_its_connection(backend: cl.Backend, persistence: Any) -> None:
    """Two hosts that share the persistence: one stores its properties, the other exports the volume to it."""
    persistence.set_key_value(cl.KeyValue("node-7", json.dumps(CONNECTOR)))
    volume = backend.create_volume(1)

    stored = cl.Backend.persistence.get_key_values("node-7")
    cl.Volume.get_by_id(volume.id).connect(json.loads(stored[0].value), attached_host="node-7")

    connection = cl.Volume.get_by_id(volume.id).connections[0]
    assert connection.attached_host == "node-7"
    assert connection.status == "attached"
    assert set(connection.connection_info) == {"conn", "connector"}
    assert connection.connection_info["conn"]["driver_volume_type"] == "local"
    connection.device = {"path": "/dev/sdx", "type": "block"}
    connection.save()
    assert cl.Connection.get_by_id(connection.id).path == "/dev/sdx"


def test_disconnect_of_another_object_of_the_volume(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    connection = volume.connect(CONNECTOR)
    again = cl.Volume.get_by_id(volume.id)
    again.disconnect(again.connections[0])
    volume.refresh()
    assert volume.connections == []
    assert volume.status == "available"
    assert cl.Backend.persistence.get_connections(connection.id) == []


def test_a_device_that_the_program_attached(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    connection = volume.connect(CONNECTOR)
    connection.device_attached({"type": "block", "path": "/dev/example"})
    assert connection.attached
    assert connection.path == "/dev/example"
    assert volume.local_attach is connection
    assert cl.Connection.get_by_id(connection.id).device == {"type": "block", "path": "/dev/example"}


def test_detach_of_what_is_not_attached(backend: cl.Backend) -> None:
    with pytest.raises(cl.exception.NotLocal):
        backend.create_volume(1).detach()


def test_refresh_takes_what_was_stored(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    _ = volume.snapshots, volume.connections
    other = cl.Volume.from_record(volume.record)  # as get_by_id() in another process
    other.extend(2)
    other.create_snapshot("late")
    assert volume.size == 1
    volume.refresh()
    assert volume.size == 2
    assert [found.name for found in volume.snapshots] == ["late"]


def test_save_stores_changed_fields(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    volume._ovo.display_name = "renamed"
    volume.metadata["colour"] = "blue"
    volume.save()
    assert cl.Volume.get_by_id(volume.id).name == "renamed"
    assert cl.Volume.get_by_id(volume.id).metadata == {"colour": "blue"}


def test_key_values(persistence: Any) -> None:
    assert persistence.get_key_values() == []
    persistence.set_key_value(cl.KeyValue("key", "value"))
    persistence.set_key_value(cl.KeyValue("second", "2"))
    assert persistence.get_key_values("key") == [cl.KeyValue("key", "value")]
    persistence.set_key_value(cl.KeyValue("key", "changed"))
    assert {(found.key, found.value) for found in persistence.get_key_values()} == {("key", "changed"), ("second", "2")}
    persistence.delete_key_value(cl.KeyValue("key"))
    assert persistence.get_key_values("key") == []
    assert cl.KeyValue("a", "b") == cl.KeyValue("a", "b")
    assert cl.KeyValue("a", "b") != cl.KeyValue("a", "c")


def test_delete(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1)
    volume.delete()
    assert volume.status == "deleted"
    assert volume.deleted
    assert volume.terminated_at <= volume.deleted_at
    assert files() == set()
    assert backend.volumes == []
    with pytest.raises(cl.exception.VolumeNotFound):
        volume.refresh()


@pytest.mark.cinderlib("when records are written")
def test_errors_carry_the_resource(backend: cl.Backend, tmp_path: Path) -> None:
    (tmp_path / "loop-volumes").rename(tmp_path / "gone")
    with pytest.raises(Exception) as caught:
        backend.create_volume(1, name="unlucky")
    (tmp_path / "gone").rename(tmp_path / "loop-volumes")

    volume = caught.value.resource  # type: ignore[attr-defined]
    assert isinstance(volume, cl.Volume)
    assert (volume.name, volume.status) == ("unlucky", "error")
    stored = cl.Volume.get_by_id(volume.id)
    assert stored.status == "error"
    stored.delete()


def test_backend_attributes(memory_backend: cl.Backend) -> None:
    backend = memory_backend
    assert backend.id == backend.name == "loop"
    assert cl.Backend.backends == {"loop": backend}
    assert backend.pool_names == (backend.stats()["pools"][0]["pool_name"],)
    assert backend.stats(refresh=True)["pools"][0]["free_capacity_gb"] > 0
    assert backend.driver.initialized
    assert backend.get_volume_stats() is not None  # whatever Backend lacks is the driver's
    assert "loop" in repr(backend)
    with pytest.raises(AttributeError):
        _ = backend.nothing_of_this_name
    backend.validate_connector(CONNECTOR)


def test_the_same_backend_twice(memory_backend: cl.Backend, new_backend: Any) -> None:
    assert new_backend() is memory_backend
    with pytest.raises(ValueError, match="already exists with a different configuration"):
        new_backend(max_over_subscription_ratio="3")


def test_setup_twice(library: None) -> None:
    with pytest.raises(RuntimeError, match="Already setup"):
        cl.setup()


def test_unknown_pool(memory_backend: cl.Backend) -> None:
    with pytest.raises(ValueError, match="pool_name must be one of"):
        memory_backend.create_volume(1, pool_name="nowhere")


def test_list_supported_drivers() -> None:
    first, second = cl.list_supported_drivers(), cl.Backend.list_supported_drivers(2)
    assert set(first) == set(second)
    assert {"LVMVolumeDriver", "RBDDriver", "NfsDriver"} <= set(first)
    described = first["LVMVolumeDriver"]
    assert described["class_fqn"] == "cinder.volume.drivers.lvm.LVMVolumeDriver"
    assert all(isinstance(value, str) for option in described["driver_options"] for value in option.values())
    assert "volume_group" in {option["dest"] for option in second["LVMVolumeDriver"]["driver_options"]}


@pytest.mark.root
def test_get_connector_properties() -> None:
    properties = cl.get_connector_properties("sudo", "192.0.2.1", False, False)
    assert properties["ip"] == "192.0.2.1"
    assert properties["host"]


def test_plain_forms(memory_backend: cl.Backend) -> None:
    volume = memory_backend.create_volume(1, name="shown")
    volume.create_snapshot("s")
    assert json.loads(volume.jsons) == volume.json
    assert json.loads(volume.to_jsons()) == volume.to_json()
    assert "snapshots" not in volume.to_json()["ovo"]["versioned_object.data"]
    assert "snapshots" in volume.to_json(simplified=False)["ovo"]["versioned_object.data"]
    shown = volume.to_dict()["volume"]
    assert shown["display_name"] == "shown"
    listed = shown["snapshots"]["snapshotlist"]["objects"]
    assert [found["snapshot"]["display_name"] for found in listed] == ["s"]
    assert repr(volume).startswith("<cinderbox.Volume object")
