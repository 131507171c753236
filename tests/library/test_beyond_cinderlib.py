"""What cinderlib lacked: adoption, retype, revert, groups."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cinder import exception, objects
from cinder.volume import qos_specs
from oslo_utils import timeutils

import csi_plugin as cl


def _write(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


def test_a_volume_is_given_up_and_adopted(backend: cl.Backend, tmp_path: Path, files: Any) -> None:
    volume = backend.create_volume(2, name="first")
    name = volume.name_in_storage
    volume.unmanage()
    assert files() == {name}
    with pytest.raises(cl.exception.VolumeNotFound):
        volume.refresh()
    assert [found["reference"] for found in backend.manageable_volumes()] == [{"source-name": name}]

    adopted = backend.manage_existing({"source-name": name}, name="second")
    assert (adopted.size, adopted.name, adopted.status) == (2, "second", "available")
    assert cl.Volume.get_by_id(adopted.id).name == "second"
    assert files() == {adopted.name_in_storage}
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        backend.manage_existing(adopted.name_in_storage)


def test_a_volume_stays_ours_until_it_is_given_up(
    backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = backend.create_volume(1)
    name = volume.name_in_storage
    with monkeypatch.context() as refusing, pytest.raises(exception.VolumeIsBusy):
        refusing.setattr(type(backend.driver), "unmanage", _refuse)
        volume.unmanage()
    assert cl.Volume.get_by_id(volume.id).status == "available"
    # A program that ended right before the driver's call leaves this.
    volume._ovo.status = "unmanaging"
    volume.save()
    cl.Volume.get_by_id(volume.id).unmanage()
    assert files() == {name}
    with pytest.raises(cl.exception.VolumeNotFound):
        cl.Volume.get_by_id(volume.id)


def _refuse(driver: Any, volume: Any) -> None:
    raise exception.VolumeIsBusy(volume_name=volume.name)


def test_nothing_is_recorded_for_a_reference_to_nothing(backend: cl.Backend) -> None:
    with pytest.raises(exception.ManageExistingInvalidReference):
        backend.manage_existing("not-there")
    backend.refresh()
    assert backend.volumes == []


def test_a_snapshot_is_given_up_and_adopted(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("s")
    name = snapshot.name_in_storage
    snapshot.unmanage()
    assert volume.snapshots == []
    assert name in files()
    with pytest.raises(cl.exception.SnapshotNotFound):
        snapshot.refresh()

    adopted = volume.manage_existing_snapshot(name, name="again")
    assert (adopted.status, adopted.volume_size, adopted.name) == ("available", 1, "again")
    assert [found.id for found in cl.Volume.get_by_id(volume.id).snapshots] == [adopted.id]
    with pytest.raises(exception.ManageExistingInvalidReference):
        volume.manage_existing_snapshot("not-there")
    assert [found.id for found in cl.Volume.get_by_id(volume.id).snapshots] == [adopted.id]
    adopted.delete()
    assert files() == {volume.name_in_storage}


def test_retype(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, extra_specs={"a": "1"})
    volume.retype(extra_specs={"a": "2", "b": "3"}, qos_specs={"maxIOPS": "10"})
    stored = cl.Volume.get_by_id(volume.id)
    assert stored.volume_type.extra_specs == {"a": "2", "b": "3"}
    assert stored.volume_type.qos_specs.specs == {"maxIOPS": "10"}
    volume.retype(qos_specs={})
    assert cl.Volume.get_by_id(volume.id).record.qos_specs == {}
    assert cl.Volume.get_by_id(volume.id).record.extra_specs == {"a": "2", "b": "3"}


def test_a_driver_finds_the_new_type_in_the_database(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several read the QoS specs of a type there, though they are given the type."""
    seen: list[Any] = []

    def retype(context: Any, volume: Any, new_type: Any, diff: Any, host: Any) -> bool:
        seen.append(qos_specs.get_qos_specs(context, new_type.qos_specs_id)["specs"])
        seen.append(objects.VolumeType.get_by_id(context, new_type.id).extra_specs)
        return True

    volume = backend.create_volume(1, extra_specs={"a": "1"}, qos_specs={"maxIOPS": "10"})
    monkeypatch.setattr(backend.driver, "retype", retype)
    volume.retype(extra_specs={"a": "2"}, qos_specs={"maxIOPS": "20"})
    assert seen == [{"maxIOPS": "20"}, {"a": "2"}]


def test_a_retype_that_the_driver_cannot_do(memory_backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = memory_backend.create_volume(1, extra_specs={"a": "1"})
    monkeypatch.setattr(memory_backend.driver, "retype", lambda *args: False)
    with pytest.raises(cl.exception.InvalidVolume, match="without moving its data"):
        volume.retype(extra_specs={"a": "2"})
    assert cl.Volume.get_by_id(volume.id).record.extra_specs == {"a": "1"}


def test_revert_to_the_latest_snapshot(backend: cl.Backend, tmp_path: Path) -> None:
    volume = backend.create_volume(1)
    path = tmp_path / "loop-volumes" / volume.name_in_storage
    older = volume.create_snapshot("older", created_at=datetime.now(UTC) - timedelta(hours=1))
    _write(path, b"before")
    latest = volume.create_snapshot("latest")
    _write(path, b"after!")

    with pytest.raises(cl.exception.InvalidSnapshot, match=f"only the latest snapshot, {latest.id}"):
        volume.revert(older)
    with pytest.raises(cl.exception.InvalidSnapshot, match="is not of volume"):
        backend.create_volume(1).revert(latest)
    volume.revert(latest)

    with path.open("rb") as file:
        assert file.read(6) == b"before"
    assert cl.Volume.get_by_id(volume.id).status == "available"
    volume.extend(2)
    with pytest.raises(cl.exception.InvalidVolume, match="extended after"):
        volume.revert(latest)


def test_a_driver_without_reverting_leaves_the_volume_as_it_is(
    backend: cl.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LVM's for thin volumes, say, whose method raises that."""

    def has_none(*args: Any) -> None:
        raise NotImplementedError("not for thin volumes")

    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("s")
    monkeypatch.setattr(backend.driver, "revert_to_snapshot", has_none)
    with pytest.raises(NotImplementedError, match="thin") as caught:
        volume.revert(snapshot)
    assert caught.value.resource is volume  # type: ignore[attr-defined]
    assert volume.status == cl.Volume.get_by_id(volume.id).status == "available"


NOON = datetime(2026, 1, 2, 12, 0, 5, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def test_the_older_of_two_snapshots_of_one_second_is_not_reverted_to(persistence: Any, new_backend: Any) -> None:
    volume = new_backend().create_volume(1)
    first, second = (
        volume.create_snapshot(name, created_at=NOON + number * MICROSECOND)
        for number, name in ((1, "first"), (2, "second"))
    )
    with pytest.raises(cl.exception.InvalidSnapshot, match=f"only the latest snapshot, {second.id}"):
        volume.revert(first)
    volume.revert(second)


@pytest.mark.parametrize("moment", [NOON + MICROSECOND, NOON + timedelta(seconds=0.9), NOON])
def test_snapshots_whose_order_is_unknown_are_not_reverted_to(
    persistence: Any, new_backend: Any, moment: datetime
) -> None:
    volume = new_backend().create_volume(1)
    # Earlier versions cut times to seconds: the whole second may be any moment of it.
    one = volume.create_snapshot("one", created_at=NOON if moment != NOON + MICROSECOND else moment)
    other = volume.create_snapshot("other", created_at=moment)
    for snapshot, rival in ((one, other), (other, one)):
        with pytest.raises(cl.exception.InvalidSnapshot, match=f"{rival.id} is the latest cannot be told"):
            volume.revert(snapshot)
    assert cl.Volume.get_by_id(volume.id).status == "available"
    other.delete()
    volume.revert(one)


@pytest.mark.parametrize("hours", [1, -1])
def test_the_latest_snapshot_is_so_whatever_the_clock_says(persistence: Any, new_backend: Any, hours: int) -> None:
    volume = new_backend().create_volume(1)
    first = volume.create_snapshot("first")
    timeutils.set_time_override(datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours))
    try:
        second = volume.create_snapshot("second")
        timeutils.advance_time_seconds(1)
        third = volume.create_snapshot("third")
    finally:
        timeutils.clear_time_override()
    for older in (first, second):
        with pytest.raises(cl.exception.InvalidSnapshot, match=str(third.id)):
            volume.revert(older)
    fourth = volume.create_snapshot("fourth")
    volume.revert(fourth)


def test_groups_and_their_snapshots(backend: cl.Backend, files: Any) -> None:
    volumes = [backend.create_volume(1, name=str(number)) for number in range(3)]
    group = backend.create_group(name="set", volumes=volumes[:2], group_specs={"consistent": "<is> True"})
    assert group.status == "available"
    assert {found.id for found in group.volumes} == {volume.id for volume in volumes[:2]}
    assert cl.Group.get_by_id(group.id).group_specs == {"consistent": "<is> True"}

    group.update(add=[volumes[2]], remove=[volumes[0]])
    assert {found.id for found in cl.Group.get_by_id(group.id).volumes} == {volume.id for volume in volumes[1:]}

    wanted = cl.Volume.new_uuid()
    taken = group.create_snapshot("moment", snapshots={volumes[1].id: {"id": wanted, "name": "of one"}})
    assert taken.status == "available"
    assert {found.volume_id for found in taken.snapshots} == {volume.id for volume in volumes[1:]}
    assert cl.Snapshot.get_by_id(wanted).name == "of one"
    assert cl.GroupSnapshot.get_by_id(taken.id).group.id == group.id
    assert [found.id for found in group.snapshots] == [taken.id]
    with pytest.raises(exception.InvalidGroup, match="has snapshots"):
        group.delete()

    volumes[1].refresh()
    volumes[1].delete(deferred=True)
    taken.delete()
    assert files() == {volumes[0].name_in_storage, volumes[2].name_in_storage}
    group.delete()
    with pytest.raises(cl.exception.GroupNotFound):
        cl.Group.get_by_id(group.id)
    assert cl.Volume.get_by_id(volumes[2].id).group_id is None


def test_a_group_is_of_one_backend(memory_backend: cl.Backend, new_backend: Any) -> None:
    with pytest.raises(cl.exception.InvalidVolume, match="is not on backend"):
        memory_backend.create_group(volumes=[new_backend("other").create_volume(1)])


def test_a_group_snapshot_that_fails_leaves_the_records(
    memory_backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = [memory_backend.create_volume(1) for _ in range(2)]
    group = memory_backend.create_group(volumes=volumes)

    def fail(*args: Any) -> None:
        raise exception.VolumeBackendAPIException(data="away")

    with monkeypatch.context() as broken:
        broken.setattr(memory_backend.driver, "create_group_snapshot", fail)
        with pytest.raises(exception.VolumeBackendAPIException) as caught:
            group.create_snapshot("s")
    failed = caught.value.resource
    assert failed.status == "error"
    assert [found.status for found in failed.snapshots] == ["error", "error"]
    failed.delete()
    assert files() == {volume.name_in_storage for volume in volumes}


def test_a_driver_saves_the_volume_that_it_makes(backend: cl.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cinder's drivers for file shares note a volume's format so; without it, what is written could pass for qcow2."""
    create = type(backend.driver).create_volume

    def create_and_save(driver: Any, volume: Any) -> Any:
        update = create(driver, volume)
        volume.admin_metadata["format"] = "raw"
        with volume.obj_as_admin():
            volume.save()
        return update

    monkeypatch.setattr(type(backend.driver), "create_volume", create_and_save)
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot()
    volume.admin_metadata["format"] = "qcow2"
    volume._ovo.save()
    assert cl.Volume.get_by_id(volume.id).admin_metadata == {"format": "qcow2"}
    snapshot.delete()
    volume.delete()
