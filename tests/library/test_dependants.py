"""Deleting what other things need: refused, or deferred until the last of them is gone."""

from typing import Any

import pytest
from cinder import exception

import csi_plugin as cl
from csi_plugin.persistence.records import ConnectionRecord, Intent, Phase, SnapshotRecord
from csi_plugin.storage.library_state import STATE


@pytest.mark.cinderlib("`delete()` with snapshots")
def test_a_volume_with_snapshots_is_not_deleted(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("s")
    unaware = cl.Volume(backend, size=1, id=volume.id)  # an object that knows of no snapshots
    for refused in (volume, unaware, cl.Volume.get_by_id(volume.id)):
        with pytest.raises(cl.exception.InvalidVolume, match="has snapshots"):
            refused.delete()
        with pytest.raises(cl.exception.InvalidVolume, match="snapshot"):
            refused.unmanage()
    assert files() == {volume.name_in_storage, snapshot.name_in_storage}
    assert cl.Volume.get_by_id(volume.id).status == "available"


def test_a_deferred_delete_ends_with_the_last_snapshot(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1, name="kept")
    first, second = volume.create_snapshot("1"), volume.create_snapshot("2")

    volume.delete(deferred=True)

    stored = cl.Volume.get_by_id(volume.id)
    assert stored.intent is not None
    assert stored.intent.phase is Phase.DEFERRED
    assert "snapshots" in stored.intent.condition
    assert volume.name_in_storage in files()
    with pytest.raises(cl.exception.InvalidVolume):
        stored.clone()
    restored = second.create_volume()  # what was taken of it can be used as before

    first.delete()
    assert volume.name_in_storage in files()
    second.delete()
    assert files() == {restored.name_in_storage}
    with pytest.raises(cl.exception.VolumeNotFound):
        volume.refresh()


def test_a_deferred_delete_keeps_the_intent(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, intent=Intent(name="claim", request={"a": 1}))
    assert volume.intent.phase is Phase.READY
    snapshot = volume.create_snapshot("s")
    volume.delete(deferred=True)
    intent = cl.Volume.get_by_id(volume.id).intent
    assert (intent.name, intent.request, intent.phase) == ("claim", {"a": 1}, Phase.DEFERRED)
    snapshot.delete()


def test_a_deferred_delete_without_dependants_deletes(backend: cl.Backend, files: Any) -> None:
    backend.create_volume(1).delete(deferred=True)
    assert files() == set()
    assert backend.volumes == []


@pytest.mark.parametrize("is_snapshotted", [True, False])
def test_a_dependant_that_is_recorded_while_the_deletion_is(
    backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch, is_snapshotted: bool
) -> None:
    """As the clean-up after a snapshot's failed attempt writes its record anew: the volume goes after it. A connection
    is in the way of the deletion, which has not begun then."""
    volume = backend.create_volume(1)
    snapshot = SnapshotRecord(id="s", backend=backend.id, volume_id=volume.id, status="error")
    dependant = snapshot if is_snapshotted else ConnectionRecord(id="c", volume_id=volume.id)
    update = STATE.store.update

    def update_with_dependant(record: Any) -> Any:
        stored = update(record)
        if record.status == "deleting":
            STATE.store.create(dependant)
        return stored

    monkeypatch.setattr(STATE.store, "update", update_with_dependant)
    if is_snapshotted:
        volume.delete(deferred=True)
    else:
        with pytest.raises(cl.exception.InvalidVolume, match="connected meanwhile"):
            volume.delete(deferred=True)
    assert cl.Volume.get_by_id(volume.id).status == ("deferred_deleting" if is_snapshotted else "available")
    assert files() == {volume.name_in_storage}
    STATE.store.delete(dependant)


class CopyOnWrite:
    """Makes a backend behave like one whose clones share data with their source, as the loop driver's never do."""

    def __init__(self, backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delete_volume, self.delete_snapshot = backend.driver.delete_volume, backend.driver.delete_snapshot
        monkeypatch.setattr(backend.driver, "delete_volume", self.refuse_volume)
        monkeypatch.setattr(backend.driver, "delete_snapshot", self.refuse_snapshot)

    def refuse_volume(self, volume: Any) -> None:
        if any(found.source_volid == volume.id for found in cl.Backend.persistence.get_volumes()):
            raise exception.VolumeIsBusy(volume_name=volume.name)
        self.delete_volume(volume)

    def refuse_snapshot(self, snapshot: Any) -> None:
        if any(found.snapshot_id == snapshot.id for found in cl.Backend.persistence.get_volumes()):
            raise exception.SnapshotIsBusy(snapshot_name=snapshot.name)
        self.delete_snapshot(snapshot)


def test_a_volume_that_clones_need(backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    CopyOnWrite(backend, monkeypatch)
    volume = backend.create_volume(1)
    clone = volume.clone()
    grandchild = clone.clone()

    with pytest.raises(cl.exception.VolumeIsBusy) as caught:
        volume.delete()
    assert caught.value.resource is volume
    assert cl.Volume.get_by_id(volume.id).status == "available"

    volume.delete(deferred=True)
    clone.delete(deferred=True)
    assert files() == {volume.name_in_storage, clone.name_in_storage, grandchild.name_in_storage}
    grandchild.delete()
    assert files() == set()
    assert cl.Backend.persistence.get_volumes() == []


def test_a_snapshot_that_clones_need(backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    CopyOnWrite(backend, monkeypatch)
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("s")
    restored = snapshot.create_volume()
    with pytest.raises(cl.exception.SnapshotIsBusy) as caught:
        snapshot.delete()
    assert caught.value.resource is snapshot
    assert cl.Snapshot.get_by_id(snapshot.id).status == "available"
    restored.delete()
    snapshot.delete()
    volume.delete()
    assert files() == set()


def test_a_driver_that_fails_late_keeps_the_volume_deferred(
    backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("s")
    volume.delete(deferred=True)

    def fail(found: Any) -> None:
        raise exception.VolumeBackendAPIException(data="the array is away")

    with monkeypatch.context() as broken:
        broken.setattr(backend.driver, "delete_volume", fail)
        snapshot.delete()
    kept = cl.Volume.get_by_id(volume.id)
    assert "the array is away" in kept.intent.condition
    assert kept.finish_deferred()
    assert files() == set()


def test_a_failed_delete_can_be_repeated(backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("s")

    def fail(found: Any) -> None:
        raise exception.VolumeBackendAPIException(data="the array is away")

    with monkeypatch.context() as broken:
        broken.setattr(backend.driver, "delete_snapshot", fail)
        broken.setattr(backend.driver, "delete_volume", fail)
        with pytest.raises(exception.VolumeBackendAPIException):
            snapshot.delete()
        assert cl.Snapshot.get_by_id(snapshot.id).status == "error_deleting"
    cl.Snapshot.get_by_id(snapshot.id).delete()
    with monkeypatch.context() as broken:
        broken.setattr(backend.driver, "delete_volume", fail)
        with pytest.raises(exception.VolumeBackendAPIException):
            volume.delete()
        assert cl.Volume.get_by_id(volume.id).status == "error_deleting"
    cl.Volume.get_by_id(volume.id).delete()
    assert files() == set()
