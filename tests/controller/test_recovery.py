"""Failed and interrupted attempts, restored backups, and what a restart finishes."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.controller.recovery.orphans import list_orphans
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupSnapshotRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol import csi_pb2
from tests.controller.drivers import FaultyDriver, StuckDriver
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import fails
from tests.support.loop_volumes import file_names
from tests.support.polling import wait_until

Code = grpc.StatusCode
FAULTY = "tests.controller.drivers.FaultyDriver"
PLAIN = "tests.controller.drivers.PlainDriver"
LONG_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


@pytest.fixture(autouse=True)
def _forget_faults() -> Iterator[None]:
    yield
    FaultyDriver.failed.clear()
    FaultyDriver.failed_group_snapshots.clear()


def interrupt(store: RecordStore, volume_id: str, *, began: datetime | None = None) -> None:
    """Leave a record as a crash after the driver's work does, or as an old backup has it."""
    record = store.get(VolumeRecord, volume_id)
    assert record and record.intent
    store.delete(record)
    record.revision = 0
    record.status, record.intent.phase, record.provider_id = "creating", Phase.CREATING, None
    record.created_at = began or record.created_at
    store.create(record)


def condition(plugin: Plugin, record_id: str) -> str:
    (found,) = [found for found in list_orphans(plugin.store) if found.id == record_id]
    return found.condition


def restart(plugin: Plugin, serve: Serve) -> Plugin:
    """A new process' view: the same store and storage, nothing in flight."""
    plugin.backends.close()
    again = serve(directory=plugin.directory)
    again.service.recovery.run_once()
    return again


@contextmanager
def loop_device(path: Path) -> Iterator[None]:
    device = subprocess.run(["losetup", "--find", "--show", str(path)], check=True, capture_output=True).stdout.strip()
    try:
        yield
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_error_of_the_driver_is_reported_without_secrets_and_the_next_attempt_has_a_new_id(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)

    with fails(Code.INTERNAL, "nothing was made", "auth_password=***"):
        plugin.create("before-once")
    (failed,) = plugin.store.find(VolumeRecord)
    plugin.service.recovery.run_once()
    volume = plugin.create("before-once")

    assert volume.volume_id != failed.id
    assert plugin.store.get(VolumeRecord, volume.volume_id).intent.generation == 2
    plugin.service.recovery.run_once()
    assert [record.id for record in plugin.store.find(VolumeRecord)] == [volume.volume_id]
    assert list_orphans(plugin.store) == []


def test_pieces_of_a_failed_attempt_are_removed(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)

    with fails(Code.INTERNAL, "it was made, but"):
        plugin.create("after-once")
    assert plugin.list() == []
    volume = plugin.create("after-once")
    assert len(plugin.files()) == 2
    plugin.service.recovery.run_once()

    assert plugin.files() == [f"volume-{volume.volume_id}"]
    assert [record.id for record in plugin.store.find(VolumeRecord)] == [volume.volume_id]


def test_failed_attempt_that_is_never_repeated_leaves_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = serve(driver=FAULTY, settle_seconds=0)
    with fails(Code.INTERNAL):
        plugin.create("after")
    listed = []
    delete_volume = FaultyDriver.delete_volume

    def delete(driver: FaultyDriver, volume: Any) -> None:
        listed.append(plugin.list())
        delete_volume(driver, volume)

    monkeypatch.setattr(FaultyDriver, "delete_volume", delete)
    plugin.service.recovery.run_once()

    assert listed == [[]], "nobody was told of it"
    assert plugin.files() == []
    assert list_orphans(plugin.store) == plugin.store.find(VolumeRecord) == []


def test_id_of_a_failed_attempt_is_not_used_again_at_once(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)
    with fails(Code.INTERNAL):
        plugin.create("after-once")
    (failed,) = plugin.store.find(VolumeRecord)
    plugin.service.recovery.run_once()
    assert plugin.files() == list_orphans(plugin.store) == []

    assert plugin.create("after-once").volume_id != failed.id
    plugin.service.recovery.run_once()
    assert len(plugin.store.find(VolumeRecord)) == 1


def test_delete_that_silently_does_nothing_is_found_out(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)
    with fails(Code.INTERNAL):
        plugin.create("after-silent")
    (failed,) = plugin.store.find(VolumeRecord)

    plugin.service.recovery.run_once()

    assert "did not remove it" in condition(plugin, failed.id)
    assert plugin.files() == [f"volume-{failed.id}"]
    assert plugin.list() == []


def test_orphan_that_cannot_be_deleted_is_held(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)
    with fails(Code.INTERNAL):
        plugin.create("after-undeletable")
    (failed,) = plugin.store.find(VolumeRecord)

    plugin.service.recovery.run_once()

    assert "cannot be deleted" in condition(plugin, failed.id)
    assert plugin.list() == []
    plugin.delete(failed.id)


def test_failed_attempt_on_a_driver_that_cannot_list_is_deleted_as_cinder_does(serve: Serve) -> None:
    plugin = serve(driver=PLAIN)
    with fails(Code.INTERNAL, "password=***"):
        plugin.create("broken")

    plugin.service.recovery.run_once()
    assert plugin.files() == []


def test_interrupted_attempt_is_replaced_and_its_object_removed(plugin: Plugin, serve: Serve) -> None:
    first = plugin.create("pvc-1").volume_id
    interrupt(plugin.store, first)
    again = restart(plugin, serve)
    assert again.files() == [f"volume-{first}"]  # nobody has asked for the name again: nothing is touched
    assert again.list() == []

    second = again.create("pvc-1").volume_id
    again.service.recovery.run_once()

    assert second != first
    assert again.files() == [f"volume-{second}"]
    assert again.list() == [second]


@pytest.mark.parametrize("settle_seconds", [0, 3600])
def test_interrupted_attempt_that_left_nothing_is_forgotten_when_the_array_has_settled(
    serve: Serve, settle_seconds: float
) -> None:
    plugin = serve(settle_seconds=settle_seconds)
    first = plugin.create("pvc-1").volume_id
    interrupt(plugin.store, first)
    (plugin.directory / f"volume-{first}").unlink()
    plugin.create("pvc-1")

    plugin.service.recovery.run_once()

    is_there = plugin.store.get(VolumeRecord, first) is not None
    assert is_there is (settle_seconds > 0)


def test_interrupted_snapshot_that_left_nothing_does_not_keep_its_deleted_volume(serve: Serve) -> None:
    plugin = serve(settle_seconds=0)
    volume_id = plugin.create("pvc-1").volume_id
    snapshot = plugin.store.get(SnapshotRecord, plugin.snapshot("snap", volume_id).snapshot_id)
    plugin.store.delete(snapshot)
    snapshot.revision, snapshot.status, snapshot.intent.phase = 0, "creating", Phase.CREATING
    plugin.store.create(snapshot)
    (plugin.directory / f"snapshot-{snapshot.id}").unlink()
    again = plugin.snapshot("snap", volume_id)
    plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=again.snapshot_id))
    plugin.delete(volume_id)

    plugin.service.recovery.start()
    wait_until(lambda: plugin.files() == [] and plugin.store.find(VolumeRecord) == [], plugin.files)
    assert plugin.store.find(SnapshotRecord) == []
    plugin.service.recovery.stop()


def test_fresh_backup_restored_under_a_running_controller_never_costs_data(plugin: Plugin) -> None:
    """As with etcd: the CO goes back to its old state too, and asks for the name again."""
    first = plugin.create("pvc-1").volume_id
    (plugin.directory / f"volume-{first}").open("r+b").write(b"precious")
    interrupt(plugin.store, first)

    assert plugin.create("pvc-1").volume_id != first
    plugin.service.recovery.run_once()

    assert (plugin.directory / f"volume-{first}").open("rb").read(8) == b"precious"
    assert "held" in condition(plugin, first)


def test_backup_from_before_a_creation_that_the_co_repeats_never_costs_data(plugin: Plugin) -> None:
    first = plugin.create("pvc-1").volume_id
    (plugin.directory / f"volume-{first}").open("r+b").write(b"precious")
    plugin.store.delete(plugin.store.get(VolumeRecord, first))

    second = plugin.create("pvc-1").volume_id
    plugin.service.recovery.run_once()

    assert second != first
    assert (plugin.directory / f"volume-{first}").open("rb").read(8) == b"precious"
    assert "older" in condition(plugin, first)


@pytest.mark.parametrize("repeated", [False, True])
def test_backup_taken_in_the_middle_of_a_creation_never_costs_data(
    plugin: Plugin, serve: Serve, repeated: bool
) -> None:
    first = plugin.create("pvc-1").volume_id
    (plugin.directory / f"volume-{first}").open("r+b").write(b"precious")
    interrupt(plugin.store, first, began=LONG_AGO)
    again = restart(plugin, serve)

    if repeated:
        assert again.create("pvc-1").volume_id != first
    for _ in range(3):
        again.service.recovery.run_once()

    assert (again.directory / f"volume-{first}").open("rb").read(8) == b"precious"
    assert condition(again, first)
    assert first not in again.list()
    # Later steps of a person or the CO do not touch it either.
    again.delete(first)
    restart(again, serve)
    assert (again.directory / f"volume-{first}").exists()


@pytest.mark.root
def test_object_in_use_is_never_removed(plugin: Plugin, serve: Serve) -> None:
    first = plugin.create("pvc-1").volume_id
    interrupt(plugin.store, first)
    plugin = restart(plugin, serve)
    plugin.create("pvc-1")

    with loop_device(plugin.directory / f"volume-{first}"):
        plugin.service.recovery.run_once()
        assert "attached" in condition(plugin, first)
    plugin.service.recovery.run_once()
    assert f"volume-{first}" not in plugin.files()


def test_object_that_something_refers_to_is_never_removed(plugin: Plugin) -> None:
    first = plugin.create("pvc-1").volume_id
    plugin.snapshot("snap", first)
    interrupt(plugin.store, first)
    plugin.create("pvc-1")

    plugin.service.recovery.run_once()

    assert "snapshot" in condition(plugin, first)
    assert f"volume-{first}" in plugin.files()


def test_interrupted_attempt_on_a_driver_that_cannot_list_is_held(serve: Serve) -> None:
    plugin = serve(driver=PLAIN)
    first = plugin.create("pvc-1").volume_id
    interrupt(plugin.store, first)
    plugin.create("pvc-1")

    plugin.service.recovery.run_once()

    assert "cannot list" in condition(plugin, first)
    assert f"volume-{first}" in plugin.files()


def test_deleting_an_interrupted_attempt_is_ok_and_leaves_it_to_recovery(plugin: Plugin) -> None:
    first = plugin.create("pvc-1").volume_id
    interrupt(plugin.store, first)

    plugin.delete(first)
    assert plugin.store.get(VolumeRecord, first).intent.phase is Phase.ORPHAN
    plugin.service.recovery.run_once()
    assert plugin.files() == []


def test_snapshot_of_a_failed_attempt_is_removed(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)
    volume_id = plugin.create("pvc-1").volume_id
    with fails(Code.INTERNAL, "it was made, but"):
        plugin.snapshot("after-once", volume_id)
    assert plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest()).entries == []
    snapshot = plugin.snapshot("after-once", volume_id)

    plugin.service.recovery.run_once()

    assert plugin.files() == sorted([f"snapshot-{snapshot.snapshot_id}", f"volume-{volume_id}"])
    assert [record.id for record in plugin.store.find(SnapshotRecord)] == [snapshot.snapshot_id]


def test_group_snapshot_of_a_failed_attempt_is_removed(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)
    volume_id = plugin.create("pvc-1").volume_id
    FaultyDriver.failed_group_snapshots.append("once")
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(name="group", source_volume_ids=[volume_id])
    with fails(Code.INTERNAL, "they were made, but"):
        plugin.groups.CreateVolumeGroupSnapshot(request)
    assert plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest()).entries == []
    made = plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot

    plugin.service.recovery.run_once()

    assert plugin.files() == sorted([f"snapshot-{made.snapshots[0].snapshot_id}", f"volume-{volume_id}"])
    assert [record.id for record in plugin.store.find(GroupSnapshotRecord)] == [made.group_snapshot_id]


def test_deletion_that_a_crash_cut_off_is_finished(plugin: Plugin, serve: Serve) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    record = plugin.store.get(VolumeRecord, volume_id)
    record.status, record.intent.phase = "deleting", Phase.DELETING
    plugin.store.update(record)

    again = restart(plugin, serve)

    assert again.files() == []
    assert again.store.find(VolumeRecord) == []


def test_deferred_deletion_is_finished_when_its_dependant_went_before_a_crash(plugin: Plugin, serve: Serve) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    snapshot_id = plugin.snapshot("snap", volume_id).snapshot_id
    plugin.delete(volume_id)
    plugin.store.delete(plugin.store.get(SnapshotRecord, snapshot_id))
    (plugin.directory / f"snapshot-{snapshot_id}").unlink()

    again = restart(plugin, serve)

    assert again.files() == []
    assert again.store.find(VolumeRecord) == []


def test_busy_volume_is_deleted_later(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaultyDriver, "failed", set())
    plugin = serve(driver=FAULTY)
    volume_id = plugin.create("needed").volume_id

    plugin.delete(volume_id)  # the driver says that a clone needs it
    assert plugin.list() == []
    assert plugin.files() == [f"volume-{volume_id}"]
    FaultyDriver.failed.add("needed")  # no longer
    plugin.service.recovery.run_once()
    assert plugin.files() == []


def test_connections_that_a_crash_cut_off_are_brought_to_their_end(plugin: Plugin, serve: Serve) -> None:
    plugin.add_node("node-1")
    coming, going = plugin.create("coming").volume_id, plugin.create("going").volume_id
    for volume_id, status in ((coming, "attaching"), (going, "error_detaching")):
        plugin.publish(volume_id, "node-1")
        (connection,) = plugin.store.find(ConnectionRecord, volume_id=volume_id)
        connection.attach_status = status
        plugin.store.update(connection)

    again = restart(plugin, serve)

    (connection,) = again.store.find(ConnectionRecord)
    assert (connection.volume_id, connection.attach_status) == (coming, "attached")
    assert again.store.get(VolumeRecord, going).status == "available"


def test_recovery_runs_by_itself(plugin: Plugin, serve: Serve) -> None:
    first = plugin.create("pvc-1").volume_id
    interrupt(plugin.store, first)
    plugin = restart(plugin, serve)
    plugin.service.recovery.start()
    second = plugin.create("pvc-1").volume_id

    wait_until(lambda: plugin.files() == [f"volume-{second}"], plugin.files)
    plugin.service.recovery.stop()


def test_a_driver_that_hangs_keeps_no_other_backend_from_being_recovered(serve: Serve, tmp_path: Path) -> None:
    others = [{"volume_backend_name": "other", "volume_driver": FAULTY, "loop_volumes_dir": str(tmp_path / "other")}]
    plugin = serve(driver="tests.controller.drivers.StuckDriver", name="stuck", others=others, settle_seconds=0)
    StuckDriver.gate.clear()
    StuckDriver.started.clear()
    plugin.service.recovery.start()
    try:
        for backend in ("stuck", "other"):
            with fails(Code.INTERNAL, "it was made, but"):
                plugin.create(f"after-{backend}", parameters={"backend": backend})
            assert backend == "other" or StuckDriver.started.wait(60)
        wait_until(lambda: file_names(tmp_path / "other") == [], plugin.files)
        assert len(plugin.files()) == 1
    finally:
        StuckDriver.gate.set()
    wait_until(lambda: plugin.files() == [] and list_orphans(plugin.store) == [], plugin.files)
    plugin.service.recovery.stop()


def test_unreachable_array_is_unavailable_and_the_volume_stays_unpublished(serve: Serve) -> None:
    plugin = serve(driver=FAULTY)
    plugin.add_node("node-1")
    volume_id = plugin.create("unreachable-once").volume_id

    with fails(Code.UNAVAILABLE, "does not answer"):
        plugin.publish(volume_id, "node-1")
    assert plugin.store.find(ConnectionRecord) == []
    plugin.publish(volume_id, "node-1")
