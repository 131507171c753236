"""What programs written for cinderlib do, and what it answered: each a row of the table in docs/library.md."""

import copy
import re
import subprocess
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cinder import exception

import csi_plugin as cl
from csi_plugin.persistence import base, memory
from csi_plugin.persistence import setup as persistence_setup
from csi_plugin.storage.compatibility.cmd import cinder_cfg_to_python, cinder_to_yaml
from tests.support.csi import GIB

CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "ip": "192.0.2.7", "multipath": False}
SECOND = CONNECTOR | {"host": "near", "initiator": "iqn.2026-11.org.example:near"}


@pytest.fixture
def driver_calls(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the driver's calls that end something, as they are made."""
    made: list[str] = []
    for name in ("delete_volume", "delete_snapshot", "terminate_connection", "remove_export", "extend_volume"):
        original = getattr(type(backend.driver), name)

        def call(driver: Any, *args: Any, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
            made.append(_name)
            return _original(driver, *args, **kwargs)

        monkeypatch.setattr(type(backend.driver), name, call)
    return made


@pytest.mark.cinderlib("sizes")
@pytest.mark.parametrize("size", [2, 2.0, "2", "2.0"])
def test_sizes(memory_backend: cl.Backend, size: Any) -> None:
    volume = memory_backend.create_volume(size)
    assert (volume.size, type(volume.size)) == (2, int)
    assert memory_backend.create_volume(1).extend(size) == 2 * GIB
    assert volume.clone(size=size).size == 2


@pytest.mark.cinderlib("ids as `uuid.UUID`")
def test_ids_may_be_uuid_objects(backend: cl.Backend) -> None:
    wanted = uuid.uuid4()
    volume = backend.create_volume(1, id=wanted)
    assert volume.id == str(wanted)
    assert cl.Volume.get_by_id(wanted).id == str(wanted)
    assert [found.id for found in backend.volumes_filtered(volume_id=wanted)] == [str(wanted)]
    assert [found.id for found in cl.Backend.persistence.get_volumes(wanted)] == [str(wanted)]


@pytest.mark.cinderlib("names of backends")
def test_backend_names_may_have_blanks(memory: None, new_backend: Any) -> None:
    backend = new_backend("my array")
    volume = backend.create_volume(1)
    assert volume.host.partition("@")[2] == f"my array#{backend.pool_names[0]}"
    assert backend.volumes_filtered(volume_id=volume.id)[0].backend is backend
    volume.delete()
    for name in ("a@b", "a#b", " a", "a\n"):
        with pytest.raises(ValueError, match="volume_backend_name must be text"):
            new_backend(name)


@pytest.mark.cinderlib("what is done a second time")
def test_what_is_done_a_second_time(backend: cl.Backend, driver_calls: list[str]) -> None:
    """The driver is not called again: some end the connections of all hosts, or delete what has the name now."""
    volume, other = backend.create_volume(1), backend.create_volume(2)
    snapshot, connection = volume.create_snapshot("s"), other.connect(CONNECTOR)
    snapshot_again, volume_again = cl.Snapshot.get_by_id(snapshot.id), cl.Volume.get_by_id(volume.id)
    connection_again = cl.Connection.get_by_id(connection.id)
    assert other.extend(2) == other.extend("2") == 2 * GIB
    assert driver_calls == []

    for ended in (snapshot, snapshot, snapshot_again):
        ended.delete()
    for ended in (volume, volume, volume_again):
        ended.delete()
    for ended in (connection, connection, connection_again):
        ended.disconnect()
    other.disconnect(connection)

    assert driver_calls == [
        "delete_snapshot",
        "remove_export",
        "delete_volume",
        "terminate_connection",
        "remove_export",
    ]
    assert (snapshot_again.status, volume_again.status, connection_again.status) == ("deleted", "deleted", "detached")
    assert other.status == "available"
    assert [found.id for found in backend.volumes] == [other.id]


@pytest.mark.cinderlib("`use_multipath`")
def test_an_explicit_use_multipath_counts(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    connection = volume.connect(CONNECTOR, use_multipath=True)
    assert connection.use_multipath is True
    assert cl.Connection.get_by_id(connection.id).use_multipath is True
    assert cl.load(connection.dumps).use_multipath is True
    connection.disconnect()
    connection = volume.connect(CONNECTOR | {"multipath": True}, use_multipath=False)
    assert cl.Connection.get_by_id(connection.id).use_multipath is False
    made = cl.Connection(backend, volume=volume, connector={"multipath": True}, connection_info={"conn": {}})
    assert made.use_multipath is True
    assert volume.connect(SECOND | {"multipath": True}).use_multipath is True


@pytest.mark.cinderlib("`attach_mode`")
def test_an_explicit_attach_mode_counts(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that was to read must not write because the driver says of all connections that they are for writing."""
    volume = backend.create_volume(1)
    answer = {"driver_volume_type": "local", "data": {"device_path": "/there"}}
    given: dict[str, str] = {}
    for given, said, mode in (
        ({"attach_mode": "ro"}, {"access_mode": "rw"}, "ro"),
        ({"attach_mode": "rw"}, {"access_mode": "ro"}, "rw"),
        ({}, {"access_mode": "ro"}, "ro"),
        ({}, {}, "rw"),
    ):
        told = answer | {"data": answer["data"] | said}
        monkeypatch.setattr(backend.driver, "initialize_connection", lambda *_, told=told: copy.deepcopy(told))
        connection = volume.connect(CONNECTOR, **given)
        made = cl.Connection(backend, volume=volume, connection_info={"conn": copy.deepcopy(told)}, **given)
        for found in (connection, cl.Connection.get_by_id(connection.id), made):
            assert (found.attach_mode, found.conn_info["data"]["access_mode"]) == (mode, mode)
        connection.disconnect()


@pytest.mark.root
@pytest.mark.cinderlib("`detach()` that fails")
def test_a_detach_that_fails(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each error is told, and with ``force`` and ``ignore_errors`` none; what is not ended is there to be ended."""

    def fails(word: str) -> Any:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise exception.VolumeBackendAPIException(data=word)

        return fail

    volume = backend.create_volume(1)
    connection = volume.attach()
    device = connection.path
    with monkeypatch.context() as broken:
        broken.setattr("csi_plugin.attachment.detach", fails("busy device"))
        with pytest.raises(exception.VolumeBackendAPIException, match="busy device"):
            volume.detach()
        assert (volume.local_attach, volume.connections) == (connection, [connection])
        broken.setattr(backend.driver, "terminate_connection", fails("busy array"))
        with pytest.raises(exception.VolumeBackendAPIException, match="busy array") as caught:
            volume.detach(force=True)
        assert "busy device" in str(caught.value.__cause__)
        volume.detach(force=True, ignore_errors=True)
    assert (volume.local_attach, volume.connections) == (None, [connection])
    assert cl.Connection.get_by_id(connection.id).status == "error_detaching"
    connection.disconnect()
    assert (volume.connections, volume.status) == ([], "available")
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.cinderlib("`Connection.status`")
def test_a_connection_has_a_status(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    connection = cl.Connection(backend, volume=volume, status="attaching", connection_info={"conn": {"data": {}}})
    assert connection.status == connection.attach_status == "attaching"


@pytest.mark.cinderlib("a second host")
def test_a_second_host_while_the_first_is_connected(
    backend: cl.Backend, driver_calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual machine moves: its volume is on both hosts for a while, and the first one's end is not the volume's."""
    volume = backend.create_volume(1)
    first = volume.connect(CONNECTOR)

    def fail(*args: Any) -> None:
        raise exception.VolumeBackendAPIException(data="no")

    with monkeypatch.context() as broken:
        broken.setattr(backend.driver, "initialize_connection", fail)
        with pytest.raises(exception.VolumeBackendAPIException):
            cl.Volume.get_by_id(volume.id).connect(SECOND)
    assert driver_calls == []  # the first host works on
    assert cl.Volume.get_by_id(volume.id).status == "in-use"

    second = cl.Volume.get_by_id(volume.id).connect(SECOND)
    assert {found.id for found in cl.Volume.get_by_id(volume.id).connections} == {first.id, second.id}
    first.disconnect()
    assert driver_calls == ["terminate_connection"]
    assert cl.Volume.get_by_id(volume.id).status == "in-use"
    second.disconnect()
    assert driver_calls[1:] == ["terminate_connection", "remove_export"]
    assert cl.Volume.get_by_id(volume.id).status == "available"


@pytest.mark.cinderlib("`extend()` that fails")
def test_an_extension_that_fails_can_be_tried_again(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = backend.create_volume(1)

    def fail(*args: Any) -> None:
        raise exception.VolumeBackendAPIException(data="full")

    with monkeypatch.context() as broken:
        broken.setattr(backend.driver, "extend_volume", fail)
        with pytest.raises(exception.VolumeBackendAPIException):
            volume.extend(2)
    assert cl.Volume.get_by_id(volume.id).status == "error_extending"
    assert volume.extend(2) == 2 * GIB
    assert volume.status == "available"


@pytest.mark.cinderlib("order of lists")
def test_the_order_of_lists(backend: cl.Backend, persistence: Any) -> None:
    for name in "cab":
        backend.create_volume(1, name=name, metadata={"n": name})
    volume = backend.create_volume(1, name="d", multiattach=True)
    for name in "zy":
        volume.create_snapshot(name)
    connections = [volume.connect(connector).id for connector in (CONNECTOR, SECOND)]
    cl.Volume.get_by_name("c")[0].extend(2)

    is_memory = isinstance(persistence, memory.MemoryPersistence)
    in_order = "cabd" if is_memory else "dbac"
    assert "".join(found.name for found in backend.volumes) == in_order
    assert "".join(found.name for found in persistence.get_volumes()) == in_order
    backend.refresh()
    assert "".join(found.name for found in backend.volumes) == in_order
    again = cl.Volume.get_by_id(volume.id)
    assert [found.name for found in again.snapshots] == (["z", "y"] if is_memory else ["y", "z"])
    assert [found.name for found in persistence.get_snapshots()] == [found.name for found in again.snapshots]
    assert [found.id for found in again.connections] == connections
    assert [found.id for found in persistence.get_connections()] == connections


@pytest.mark.cinderlib("lists")
def test_lists_are_live(backend: cl.Backend) -> None:
    first = backend.create_volume(1, name="first")
    volumes, snapshots = backend.volumes, first.snapshots
    second = backend.create_volume(1, name="second")
    snapshot = first.create_snapshot("s")
    backend.refresh()
    assert volumes is backend.volumes
    assert set(volumes) == {first, second}
    assert snapshots == first.snapshots == [snapshot]
    for found in snapshots:
        found.delete()
    for found in volumes:  # none is passed over, although they go from the list
        found.delete()
    assert volumes == snapshots == []


@pytest.mark.cinderlib("objects of one id")
def test_objects_of_one_id(backend: cl.Backend, persistence: Any) -> None:
    volume = backend.create_volume(1, name="a")
    snapshot, connection = volume.create_snapshot("s"), volume.connect(CONNECTOR)
    for known in (volume, snapshot, connection):
        again = type(known).get_by_id(known.id)
        assert again == known
        assert len({again, known, cl.load(known.dumps)}) == 1
        assert (again is known) == isinstance(persistence, memory.MemoryPersistence)
        fields = ("created_at", "updated_at", "id")
        assert [getattr(again, name) for name in fields] == [getattr(known, name) for name in fields]
    assert volume != backend.create_volume(1)
    assert volume != snapshot
    same = persistence.get_volumes(volume.id)[0]
    volume._ovo.display_name = "b"
    assert same.name == ("b" if same is volume else "a")
    volume.save()
    assert cl.Volume.get_by_name("b") == [volume]
    assert backend.volumes_filtered(volume_name="b")[0].name == "b"
    # What another writer stored is seen, and what this object has not stored yet is kept.
    elsewhere = cl.Volume.from_record(volume.record)
    volume._ovo.display_description = "ours"
    elsewhere._ovo.display_name = "c"
    elsewhere.save()
    found = cl.Volume.get_by_id(volume.id)
    assert (found.name, found.description) == ("c", "ours" if found is volume else "")


@pytest.mark.cinderlib("`to_dict()`")
def test_plain_data(memory_backend: cl.Backend) -> None:
    volume = memory_backend.create_volume(1, name="a", extra_specs={"a": "b"}, qos_specs={"c": "d"})
    snapshot, connection = volume.create_snapshot("s"), volume.connect(CONNECTOR)
    data = volume.to_dict()["volume"]
    assert data["volume_type"]["volumetype"]["qos_specs"]["qualityofservicespecs"]["specs"] == {"c": "d"}
    listed = data["snapshots"]["snapshotlist"]["objects"]
    assert [found["snapshot"]["id"] for found in listed] == [snapshot.id]
    listed = data["volume_attachment"]["volumeattachmentlist"]["objects"]
    assert [found["volumeattachment"]["connection_info"]["connector"] for found in listed] == [CONNECTOR]
    assert snapshot.to_dict()["snapshot"]["volume"]["volume"]["display_name"] == "a"
    assert connection.to_dict()["volumeattachment"]["volume"]["volume"]["size"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", data["created_at"])


@pytest.mark.cinderlib("graphs of `_ovo`")
def test_versioned_objects_that_refer_to_each_other(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, extra_specs={"a": "b"})
    snapshots = [volume.create_snapshot(name) for name in "st"]
    connection = volume.connect(CONNECTOR)
    assert [found.id for found in volume._ovo.snapshots.objects] == [found.id for found in snapshots]
    assert volume._ovo.volume_attachment.objects[0].volume is volume._ovo
    for ovo in (volume._ovo, snapshots[0]._ovo, connection._ovo):
        assert ovo == ovo
        assert ovo == copy.deepcopy(ovo)
        assert ovo.obj_what_changed() == set()
        assert repr(ovo)
        primitive = ovo.obj_to_primitive()
        assert type(ovo).obj_from_primitive(primitive).id == ovo.id
    data = volume._ovo.obj_to_primitive()["versioned_object.data"]
    listed = data["snapshots"]["versioned_object.data"]["objects"]
    assert ["volume" in found["versioned_object.data"] for found in listed] == [False, False]
    clone = copy.deepcopy(volume._ovo)
    assert clone.snapshots.objects[0].volume is clone
    assert clone.snapshots.objects[0].volume.snapshots.objects[0].id == snapshots[0].id


@pytest.mark.cinderlib("`load()` without `save`")
def test_what_is_loaded_without_save_is_not_the_backends(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, name="a")
    volume.create_snapshot("s")
    texts = (volume.dumps, backend.dumps)
    cl.Backend.set_persistence({"storage": "memory"})
    assert backend.volumes == []
    for text in texts:
        cl.load(text)
    assert backend.volumes == backend.volumes_filtered(volume_name="a") == cl.Backend.persistence.get_volumes() == []
    loaded = cl.load(texts[0], save=True)
    assert backend.volumes[0] is loaded is cl.Volume.get_by_id(volume.id)
    assert [found.name for found in cl.Volume.get_by_id(volume.id).snapshots] == ["s"]


@pytest.mark.cinderlib("names for plugins and programs")
def test_names(memory_backend: cl.Backend) -> None:
    volume = memory_backend.create_volume(1, extra_specs={"a": "b"}, qos_specs={"c": "d"})
    assert cl.objects.Object.backend_class is volume.backend_class is cl.Backend
    assert cl.Volume.persistence is cl.Backend.persistence is volume.persistence
    assert isinstance(persistence_setup({"storage": "memory"}), memory.MemoryPersistence)
    described = base.vol_type_to_dict(volume._ovo.volume_type)
    assert (described["extra_specs"], described["qos_specs"]["specs"]) == ({"a": "b"}, {"c": "d"})
    database = base.DB(cl.Backend.persistence)
    assert database.volume_get(cl.objects.CONTEXT, volume.id).id == volume.id
    cl.Backend.persistence.set_key_value(cl.KeyValue("key", "1"))
    cl.Backend.persistence.delete_key_value("key")
    assert cl.Backend.persistence.get_key_values("key") == []
    unsaved = cl.Volume(memory_backend, size=1)
    cl.Backend.persistence.set_volume(unsaved)
    assert cl.Backend.persistence.get_volumes(unsaved.id)[0] is unsaved
    assert isinstance(cl.Backend.persistence.db, base.DB)
    present = cl.Backend.persistence
    cl.objects.Object.setup(memory.MemoryPersistence(), cl.Backend, "project", "user", False)
    assert cl.Backend.persistence is not present
    assert memory_backend.create_volume(1).project_id == "project"
    cl.objects.Object.setup(present, cl.Backend, "", "", False)
    assert cl.Volume.get_by_id(volume.id) == volume


class EmberLike(base.PersistenceDriverBase):
    """A plugin as ember-csi has one: the thirteen methods as the base class writes them, things named in Kubernetes."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, str]] = {"volume": {}, "snapshot": {}, "connection": {}}
        self.texts: dict[str, str] = {}
        self.fake_db = base.DB(self)
        super().__init__()

    @property
    def db(self) -> Any:
        return self.fake_db

    def _get(self, kind: str, wanted: str | None) -> list[Any]:
        return [cl.load(text) for name, text in self.kept[kind].items() if wanted in (None, "", name)]

    def get_volumes(self, volume_id: Any = None, volume_name: Any = None, backend_name: Any = None) -> list[Any]:
        return [found for found in self._get("volume", volume_id) if volume_name in (None, "", found.name)]

    def get_snapshots(self, snapshot_id: Any = None, snapshot_name: Any = None, volume_id: Any = None) -> list[Any]:
        return [found for found in self._get("snapshot", snapshot_id) if volume_id in (None, "", found.volume_id)]

    def get_connections(self, connection_id: Any = None, volume_id: Any = None) -> list[Any]:
        return [found for found in self._get("connection", connection_id) if volume_id in (None, "", found.volume_id)]

    def get_key_values(self, key: Any) -> list[Any]:  # type: ignore[override]
        return [cl.KeyValue(name, value) for name, value in self.texts.items() if key in (None, "", name)]

    def set_volume(self, volume: Any) -> None:
        self._name(volume.id)
        self.kept["volume"][volume.id] = volume.jsons
        super().set_volume(volume)

    def set_snapshot(self, snapshot: Any) -> None:
        self.kept["snapshot"][snapshot.id] = snapshot.jsons
        super().set_snapshot(snapshot)

    def set_connection(self, connection: Any) -> None:
        self.kept["connection"][connection.id] = connection.jsons
        super().set_connection(connection)

    def set_key_value(self, key_value: Any) -> None:
        self.texts[self._name(key_value.key)] = key_value.value

    def delete_volume(self, volume: Any) -> None:
        del self.kept["volume"][volume.id]
        super().delete_volume(volume)

    def delete_snapshot(self, snapshot: Any) -> None:
        del self.kept["snapshot"][snapshot.id]
        super().delete_snapshot(snapshot)

    def delete_connection(self, connection: Any) -> None:
        del self.kept["connection"][connection.id]
        super().delete_connection(connection)

    def delete_key_value(self, key: Any) -> None:  # type: ignore[override]
        del self.texts[key]  # the base class calls it a key
        assert key.value is not None  # and cinderlib's own plugins take an object

    @staticmethod
    def _name(name: str) -> str:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", name), name
        return name


@pytest.mark.cinderlib("plugins from elsewhere")
def test_ember_csis_use(library: None, new_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = EmberLike()
    cl.Backend.set_persistence({"storage": plugin})
    try:
        backend = new_backend()
        volume = backend.create_volume(1.0, name="claim")
        snapshot = volume.create_snapshot("taken")
        connection = volume.connect(CONNECTOR, attached_host="node-1")
        found = cl.Volume.get_by_name("claim")[0]
        assert [ovo.id for ovo in found._ovo.volume_attachment.objects] == [connection.id]
        assert [ovo.id for ovo in found._ovo.snapshots.objects] == [snapshot.id]
        assert [kept.id for kept in plugin.get_snapshots(volume_id=volume.id)] == [snapshot.id]
        plugin.set_key_value(cl.KeyValue("node-1", "{}"))
        assert plugin.get_key_values("node-1") == [cl.KeyValue("node-1", "{}")]
        connection.disconnect()
        snapshot.delete()
        volume.delete()
        assert plugin.kept == {"volume": {}, "snapshot": {}, "connection": {}}
        own = (f"cinderbox/{kind}/{backend.id}".encode().hex() for kind in ("storage-id", "configuration"))
        kept = {f"cinderbox.key-value.0x-{name}" for name in own}
        assert set(plugin.texts) <= {"node-1", "cinderbox.adopted", *kept}
    finally:
        cl.Backend.set_persistence({"storage": "memory"})


def test_records_of_an_earlier_version_get_names_of_today(library: None, new_backend: Any) -> None:
    plugin = EmberLike()
    cl.Backend.set_persistence({"storage": plugin})
    try:
        volume = new_backend().create_volume(1, name="kept")
        plugin.texts = {
            key.replace("cinderbox.volume.", "cinderbox/volume/").replace("cinderbox.", "cinderbox/"): value
            for key, value in plugin.texts.items()
            if "key-value" not in key
        } | {"cinderbox/instance": "i"}
        assert f"cinderbox/volume/{volume.id}" in plugin.texts
        cl.Backend.set_persistence({"storage": plugin})
        assert cl.Volume.get_by_id(volume.id).name == "kept"
        assert set(plugin.texts) == {"cinderbox.adopted", f"cinderbox.volume.{volume.id}", "cinderbox/instance"}
    finally:
        cl.Backend.set_persistence({"storage": "memory"})


@pytest.mark.cinderlib("`cinderlib.cmd`")
def test_a_cinder_conf_as_yaml_and_as_a_program(library: None, tmp_path: Path) -> None:
    source, dest = tmp_path / "cinder.conf", tmp_path / "out"
    source.write_text(
        "[DEFAULT]\nenabled_backends = lvm,my nfs\n"
        "[lvm]\nvolume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver\nvolume_backend_name = LVM_1\n"
        "volume_group = g\nvolume_clear_size = 5\n"
        "[my nfs]\nvolume_driver = cinder.volume.drivers.nfs.NfsDriver\nnfs_mount_options = vers=4\n[off]\na=b\n"
    )
    converted = cinder_to_yaml.convert(str(source), str(dest))
    assert converted["backends"] == [
        {
            "volume_backend_name": "LVM_1",
            "volume_driver": "cinder.volume.drivers.lvm.LVMVolumeDriver",
            "volume_group": "g",
            "volume_clear_size": 5,
        },
        {
            "volume_backend_name": "my nfs",
            "volume_driver": "cinder.volume.drivers.nfs.NfsDriver",
            "nfs_mount_options": "vers=4",
        },
    ]
    assert yaml.safe_load(dest.read_text()) == converted
    cinder_cfg_to_python.convert(str(source), str(dest))
    started: list[dict[str, Any]] = []
    program = dest.read_text().replace("import cinderlib as cl", "")
    exec(program, {"cl": SimpleNamespace(Backend=lambda **options: started.append(options))})
    assert started == converted["backends"]
