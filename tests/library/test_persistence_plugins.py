"""What cinderlib's own tests of its persistence plugins expect of each of them, as far as it is no internal."""

from typing import Any

import pytest
from oslo_versionedobjects.fields import ObjectField

import csi_plugin as cl
from csi_plugin.persistence.dbms import MemoryDBPersistence
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.objects import CONTEXT

CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "ip": "192.0.2.7", "multipath": False}


def test_what_persistence_plugins_find(backend: cl.Backend, new_backend: Any, persistence: Any) -> None:
    """By every filter and by several at once; what is not stored is not found, and its deletion harms nothing."""
    other = new_backend("another")
    disks = [backend.create_volume(size, name="disk") for size in (1, 2)] + [other.create_volume(1, name="third")]
    snapshots = [disk.create_snapshot("daily") for disk in disks]
    connections = [disk.connect(CONNECTOR) for disk in disks]
    values = [cl.KeyValue(name, f"value of {name}") for name in ("one", "two")]
    for value in values:
        persistence.set_key_value(value)

    def check(found: list[Any], *expected: Any) -> None:
        assert {each.id for each in found} == {each.id for each in expected}

    first, second, third = disks
    check(persistence.get_volumes(), *disks)
    check(persistence.get_volumes(volume_name="disk"), first, second)
    check(persistence.get_volumes(backend_name=other.id), third)
    check(persistence.get_volumes(backend_name=backend.id, volume_name="disk", volume_id=first.id), first)
    check(persistence.get_volumes(backend_name=other.id, volume_name="disk"))
    check(persistence.get_volumes(volume_id="fake-uuid"))
    check(persistence.get_snapshots(snapshot_name="daily"), *snapshots)
    check(persistence.get_snapshots(volume_id=second.id), snapshots[1])
    check(persistence.get_snapshots(snapshot_id=snapshots[0].id, snapshot_name="daily", volume_id=second.id))
    check(persistence.get_connections(volume_id=third.id), connections[2])
    check(persistence.get_connections(connection_id=connections[0].id, volume_id=second.id))
    assert [(found.key, found.value) for found in persistence.get_key_values("two")] == [("two", "value of two")]

    persistence.delete_volume(cl.Volume(backend, size=1))
    persistence.delete_snapshot(cl.Snapshot(first))
    persistence.delete_connection(cl.Connection(backend, volume=first, connection_info={"conn": {"data": {}}}))
    persistence.delete_key_value(cl.KeyValue("none"))
    check(persistence.get_volumes(), *disks)
    check(persistence.get_snapshots(), *snapshots)
    check(persistence.get_connections(), *connections)
    persistence.delete_key_value(values[0])
    assert [found.value for found in persistence.get_key_values()] == ["value of two"]  # none of Cinderbox' own


def test_a_volume_type_is_the_volumes_own(backend: cl.Backend, persistence: Any) -> None:
    plain = backend.create_volume(1, extra_specs={"k": "v"})
    limited = backend.create_volume(1, extra_specs={"k": "w"}, qos_specs={"q": "r"})
    for volume in (plain, limited, *persistence.get_volumes(plain.id), *persistence.get_volumes(limited.id)):
        kind = volume.volume_type
        assert (kind.id, kind.name, kind.is_public) == (volume.id, volume.id, True)
        assert kind.extra_specs == {"k": "v" if volume.id == plain.id else "w"}
        if volume.id == plain.id:
            assert kind.qos_specs_id is None
        else:
            qos = kind.qos_specs
            assert (kind.qos_specs_id, qos.id, qos.name) == (volume.id, volume.id, volume.id)
            assert (qos.consumer, qos.specs) == ("back-end", {"q": "r"})
        stored = persistence.db.volume_type_get(CONTEXT, volume.id)
        assert (stored["id"], stored["name"], stored["extra_specs"]) == (volume.id, volume.id, kind.extra_specs)


def test_a_refresh_reads_relatives_that_were_read(backend: cl.Backend, persistence: Any) -> None:
    volume = backend.create_volume(1)
    volume.create_snapshot("s")
    (again,) = persistence.get_volumes(volume.id)
    again.refresh()
    assert again.local_attach is None
    snapshots = again.snapshots
    volume.create_snapshot("t")
    again.refresh()
    assert {found.name for found in again.snapshots} == {found.name for found in snapshots} | {"t"} == {"s", "t"}


def test_what_was_not_set_reads_as_the_stored_object_says(backend: cl.Backend, persistence: Any) -> None:
    """Fields that a record cannot have empty: the value that stands for none is the object's own once it is stored."""
    volume = cl.Volume(backend, name="v", status=None, attach_status=None)
    persistence.set_volume(volume)
    snapshot = cl.Snapshot(volume, status=None)
    snapshot.save()
    connection = cl.Connection(backend, volume=volume, connection_info={"conn": {"data": {}}})
    persistence.set_connection(connection)

    assert (volume.status, volume.attach_status, snapshot.status) == ("creating", "detached", "creating")
    assert connection.status == "attached"  # a program that sets no status keeps what is connected alone
    for stored in (volume, snapshot, connection):
        assert _fields(stored) == _fields(type(stored).get_by_id(stored.id))
        assert stored._ovo.obj_what_changed() == set()

    connection._ovo.attach_status = None
    connection.save()
    assert connection.status == cl.Connection.get_by_id(connection.id).status == "attached"


def _fields(stored: Any) -> dict[str, Any]:
    """Those of a versioned object that are no objects themselves."""
    kinds = stored._ovo.fields
    values = dict(stored._ovo)
    return {name: values[name] for name in kinds if name in values and not isinstance(kinds[name], ObjectField)}


@pytest.mark.cinderlib("classes that extend a plugin")
@pytest.mark.parametrize("base", [MemoryPersistence, MemoryDBPersistence])
@pytest.mark.parametrize("sealing_keys", [None, [b"k" * 32]])
def test_a_class_that_extends_a_built_in_plugin_is_called(
    library: None, new_backend: Any, monkeypatch: pytest.MonkeyPatch, base: Any, sealing_keys: Any
) -> None:
    """As with cinderlib's classes: a program writes a file of its own whenever something is stored."""
    calls: list[str] = []

    class Extended(base):  # type: ignore[misc]
        def __init__(self, location: str) -> None:
            super().__init__()
            self.location = location

        def set_volume(self, volume: Any) -> None:
            super().set_volume(volume)
            calls.append(f"volume {volume.status}, {len(self.get_volumes())} at {self.location}")

        def set_snapshot(self, snapshot: Any) -> None:
            super().set_snapshot(snapshot)
            calls.append(f"snapshot {snapshot.status} of {snapshot.volume.name}")

        def set_connection(self, connection: Any) -> None:
            super().set_connection(connection)
            calls.append(f"connection {connection.attach_status}")

        def delete_volume(self, volume: Any) -> None:
            super().delete_volume(volume)
            calls.append(f"no volume, {len(self.get_volumes())} left")

        def delete_snapshot(self, snapshot: Any) -> None:
            super().delete_snapshot(snapshot)
            calls.append(f"no snapshot {snapshot.name}")

        def delete_connection(self, connection: Any) -> None:
            super().delete_connection(connection)
            calls.append("no connection")

    def made() -> set[str]:
        found = set(calls)
        calls.clear()
        return found

    monkeypatch.setattr(STATE, "sealing_keys", sealing_keys)
    cl.Backend.set_persistence({"storage": Extended, "location": "there"})
    try:
        backend = new_backend()
        volume = backend.create_volume(1, name="v")
        assert made() == {"volume creating, 1 at there", "volume available, 1 at there"}
        snapshot = volume.create_snapshot("s")
        assert "snapshot available of v" in made()
        connection = volume.connect(CONNECTOR)
        assert {"connection attached", "volume in-use, 1 at there"} <= made()
        assert cl.Connection.get_by_id(connection.id).conn_info == connection.conn_info != {}
        volume.extend(2)
        cl.Volume.get_by_id(volume.id).refresh()
        assert cl.Volume.get_by_id(volume.id).revision == volume.revision
        connection.disconnect()
        snapshot.delete()
        volume.delete()
        assert {"no connection", "no snapshot s", "no volume, 0 left"} <= made()
        assert cl.Backend.persistence.get_volumes() == backend.volumes == []
    finally:
        monkeypatch.undo()
        cl.Backend.set_persistence({"storage": "memory"})


def test_what_a_class_that_extends_the_memory_plugin_reads(memory_backend: cl.Backend) -> None:
    plugin = cl.Backend.persistence
    volume = memory_backend.create_volume(1)
    snapshot, connection = volume.create_snapshot("s"), volume.connect(CONNECTOR)
    plugin.set_key_value(cl.KeyValue("key", "value"))
    assert plugin.volumes == {volume.id: volume}
    assert plugin.snapshots == {snapshot.id: snapshot}
    assert plugin.connections == {connection.id: connection}
    assert plugin.key_values == {"key": cl.KeyValue("key", "value")}
