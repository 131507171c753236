"""What the library refuses: ill-formed arguments, and actions that a volume's or snapshot's state does not allow."""

from typing import Any

import pytest
from cinder import exception

import csi_plugin as cl
from csi_plugin.storage.library_state import STATE

CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "multipath": False}
SECOND = {"host": "near", "initiator": "iqn.2026-11.org.example:near", "multipath": False}


@pytest.fixture
def backend(memory_backend: cl.Backend) -> cl.Backend:
    return memory_backend


@pytest.mark.cinderlib("arguments")
@pytest.mark.parametrize("size", [0, -1, 1.5, "1.5", "one", float("inf"), None, True])
def test_a_size_is_a_whole_number_of_gib(backend: cl.Backend, size: Any, files: Any) -> None:
    with pytest.raises(exception.InvalidInput, match="whole number of GiB"):
        backend.create_volume(size)
    assert backend.volumes == []
    assert files() == set()


@pytest.mark.cinderlib("unknown keywords")
def test_an_unknown_field_names_the_nearest(backend: cl.Backend, caplog: pytest.LogCaptureFixture) -> None:
    assert backend.create_volume(1, metadat={"a": "b"}).metadat == {"a": "b"}
    assert "no field 'metadat': it is kept on the object and not stored; did you mean metadata?" in caplog.text
    assert backend.create_volume(1).create_snapshot("s", volumesize=1).volumesize == 1
    assert "did you mean volume_size?" in caplog.text
    with pytest.raises(TypeError, match="Volume has no field 'save'"):
        backend.create_volume(1, save=1)


@pytest.mark.cinderlib("`id` of one's own")
@pytest.mark.parametrize("value", ["../../etc/passwd", "volume", 7])
def test_an_id_is_a_uuid(backend: cl.Backend, value: Any) -> None:
    with pytest.raises(ValueError, match="id must be a UUID"):
        backend.create_volume(1, id=value)


@pytest.mark.parametrize("value", ["../../etc/passwd", "a/b", ".hidden", "-rf", "a b", "x" * 37, "\u00e9", 7])
def test_other_ids_do_no_harm_in_names(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.setattr(STATE, "non_uuid_ids", True)
    with pytest.raises(ValueError, match="id must have 1 to 36"):
        backend.create_volume(1, id=value)
    assert cl.Backend.persistence.get_volumes() == []


def test_an_id_in_use(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    with pytest.raises(Exception, match=volume.id):
        backend.create_volume(1, id=volume.id)
    assert cl.Volume.get_by_id(volume.id).status == "available"


def test_unknown_backends(backend: cl.Backend) -> None:
    with pytest.raises(KeyError):
        cl.Volume("elsewhere", size=1)
    with pytest.raises(ValueError, match="volume_backend_name must be text"):
        cl.Backend(volume_backend_name="a#b", volume_driver="x")


def test_a_clone_is_not_smaller(backend: cl.Backend) -> None:
    volume = backend.create_volume(2)
    snapshot = volume.create_snapshot("s")
    with pytest.raises(exception.InvalidInput, match="at least 2 GiB"):
        volume.clone(size=1)
    with pytest.raises(exception.InvalidInput, match="at least 2 GiB"):
        snapshot.create_volume(size=1)
    assert [found.id for found in backend.volumes] == [volume.id]


def test_extension_is_to_no_smaller_size(backend: cl.Backend) -> None:
    volume = backend.create_volume(2)
    with pytest.raises(exception.InvalidInput, match="not be less than 2 GiB"):
        volume.extend(1)
    assert volume.status == "available"


@pytest.mark.cinderlib("a volume of status `creating`, `error`, `deleting`...")
def test_what_is_not_there_yet_or_any_more_is_no_source(backend: cl.Backend) -> None:
    unmade = cl.Volume(backend, size=1)
    deleted = backend.create_volume(1)
    deleted._ovo.status = "deleting"
    for volume in (unmade, deleted):
        for action in (volume.clone, volume.create_snapshot, lambda volume=volume: volume.connect(CONNECTOR)):
            with pytest.raises(cl.exception.InvalidVolume, match=volume.status):
                action()
        with pytest.raises(cl.exception.InvalidVolume, match="cannot be extended"):
            volume.extend(2)
    snapshot = cl.Snapshot(backend.create_volume(1), name="unmade")
    with pytest.raises(cl.exception.InvalidSnapshot, match="must be available"):
        snapshot.create_volume()


@pytest.mark.cinderlib("`delete()` with a connection")
def test_a_connected_volume_is_not_deleted(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1)
    connection = volume.connect(CONNECTOR)
    for deferred in (False, True):
        with pytest.raises(cl.exception.InvalidVolume, match="connected"):
            cl.Volume.get_by_id(volume.id).delete(deferred=deferred)
    with pytest.raises(cl.exception.InvalidVolume, match="connection"):
        volume.unmanage()
    assert files() == {volume.name_in_storage}
    connection.disconnect()
    volume.delete()


@pytest.mark.cinderlib("the same host twice")
def test_one_connection_of_a_host_unless_multiattach(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    volume.connect(CONNECTOR)
    for connector, fields in ((CONNECTOR, {}), (SECOND, {"node_id": "near"})):  # a CSI node wants it for itself
        with pytest.raises(cl.exception.InvalidVolume, match="not multiattach"):
            cl.Volume.get_by_id(volume.id).connect(connector, **fields)


def test_multiattach(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, multiattach=True)
    first, second = volume.connect(CONNECTOR), volume.connect(SECOND, attach_mode="ro")
    assert {found.id for found in cl.Volume.get_by_id(volume.id).connections} == {first.id, second.id}
    assert second.conn_info["data"]["access_mode"] == "ro"
    first.disconnect()
    assert volume.status == "in-use"
    second.disconnect()
    assert volume.status == "available"


@pytest.mark.cinderlib("two objects of one volume")
def test_another_writers_changes_are_kept_with_relatives_loaded(backend: cl.Backend) -> None:
    """Relatives refer back to their volume: looking for changes in them would never end."""
    volume = backend.create_volume(1)
    volume.connect(CONNECTOR)
    assert volume.snapshots == []
    other = cl.Volume.from_record(volume.record)
    other._ovo.display_name = "theirs"
    other.save()
    volume._ovo.display_description = "ours"
    volume.save()
    stored = cl.Volume.get_by_id(volume.id)
    assert (stored.name, stored.description, stored.status) == ("theirs", "ours", "in-use")


@pytest.mark.cinderlib("`cleanup()`")
def test_cleanup_removes_every_connection(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, multiattach=True)
    volume.connect(CONNECTOR)
    volume.connect(SECOND)
    cl.Volume.get_by_id(volume.id).cleanup()
    volume.refresh()
    assert volume.connections == []
    volume.delete()


def test_a_connector_without_a_host_name_or_initiator(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that needs what a connector lacks, which the loop driver never does."""

    def needs_initiator(connector: dict[str, Any]) -> None:
        raise exception.InvalidConnectorException(missing="initiator")

    monkeypatch.setattr(backend.driver, "validate_connector", needs_initiator)
    volume = backend.create_volume(1)
    with pytest.raises(exception.InvalidInput, match="initiator") as caught:
        volume.connect({"host": "far"})
    assert caught.value.resource is volume  # the connection has come to nothing
    assert cl.Volume.get_by_id(volume.id).connections == []
    assert cl.Volume.get_by_id(volume.id).status == "available"


def test_setup_needs_no_program_to_know_its_order(backend: cl.Backend) -> None:
    with pytest.raises(cl.exception.InvalidPersistence, match="no persistence plugin is named"):
        cl.Backend.set_persistence({"storage": "papyrus"})
    assert cl.Backend.persistence is not None
    assert backend.create_volume(1).status == "available"


def test_nothing_is_made_twice(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    with pytest.raises(cl.exception.InvalidVolume, match="exists already"):
        volume.create()
    with pytest.raises(cl.exception.InvalidSnapshot, match="exists already"):
        volume.create_snapshot("s").create()
    assert volume.status == "available"


def test_a_failed_creation_can_be_repeated(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(volume: Any) -> None:
        raise exception.VolumeBackendAPIException(data="away")

    with monkeypatch.context() as broken:
        broken.setattr(backend.driver, "create_volume", fail)
        with pytest.raises(exception.VolumeBackendAPIException) as caught:
            backend.create_volume(1)
    volume = caught.value.resource
    assert cl.Volume.get_by_id(volume.id).status == "error"
    volume.create()
    assert cl.Volume.get_by_id(volume.id).status == "available"


def test_what_the_backend_cannot_do_to_volumes_in_use(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = backend.create_volume(1, multiattach=True)
    volume.connect(CONNECTOR)
    lacking = {"pools": [{"pool_name": "loop", "multiattach": False, "online_extend_support": False}]}
    monkeypatch.setattr(backend, "stats", lambda: lacking)
    with pytest.raises(cl.exception.InvalidVolume, match="extends only what is not"):
        volume.extend(2)
    with pytest.raises(cl.exception.InvalidVolume, match="has no multiattach"):
        volume.connect(SECOND, node_id="near")
    assert volume.status == "in-use"


def test_a_snapshot_is_on_its_volumes_backend(backend: cl.Backend, new_backend: Any) -> None:
    other = new_backend("another")
    volume = cl.Volume(backend)
    assert cl.Snapshot(volume, backend=backend).backend is cl.Snapshot(volume, backend=backend.id).backend is backend
    for wrong in (other, other.id):
        with pytest.raises(ValueError, match="backend must be loop, that of the volume, not another"):
            cl.Snapshot(volume, backend=wrong)


@pytest.mark.cinderlib("`host` of one's own")
def test_a_volume_is_recorded_on_the_backend_that_makes_it(backend: cl.Backend, files: Any) -> None:
    """Under another one's name no list of this backend would show it, and no program find its driver."""
    known, pool = files(), backend.pool_names[0]
    for wrong in ("elsewhere", f"here@other#{pool}", "here", "@", 7):
        with pytest.raises(ValueError, match=rf"host must be HOST@{backend.id}#POOL"):
            backend.create_volume(1, host=wrong)
    assert files() == known
    own = backend.create_volume(1, host=f"another machine@{backend.id}#{pool}")
    volumes = [backend.create_volume(1, host=None), own, own.clone(), own.clone(host=None), own.clone(pool_name=pool)]
    assert {found.id for found in backend.volumes} == {volume.id for volume in volumes}
    backend.refresh()
    assert {found.id for found in backend.volumes} == {volume.id for volume in volumes}
    for make in (own.clone, own.create_snapshot("s").create_volume):
        with pytest.raises(ValueError, match="pool_name must be one of"):
            make(pool_name="nowhere")


def test_a_pool_that_the_storage_has_got_meanwhile(memory_backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator adds a pool to an array: the scheduler sees it in the statistics, and chooses it."""
    first = memory_backend.pool_names[0]
    stats = memory_backend.stats()
    later = stats | {"pools": [stats["pools"][0] | {"pool_name": "late"}, *stats["pools"]]}
    monkeypatch.setattr(memory_backend.driver, "get_volume_stats", lambda refresh=False: later)
    memory_backend.stats(refresh=True)
    assert memory_backend.pool_names == (first, "late")
    assert memory_backend.create_volume(1).record.pool == first
    assert memory_backend.create_volume(1, pool_name="late").record.pool == "late"
