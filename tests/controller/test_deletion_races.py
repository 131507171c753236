"""A deletion meets the end of a creation: the same outcome for volumes, snapshots and group snapshots."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import GroupSnapshotRecord, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from tests.controller.drivers import GatedDriver
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import create_request, fails, from_snapshot, in_time

Code = grpc.StatusCode
GATED = "tests.controller.drivers.GatedDriver"
KINDS = ("volume", "snapshot", "group-snapshot")
RECORDS: dict[str, Any] = {"volume": VolumeRecord, "snapshot": SnapshotRecord, "group-snapshot": GroupSnapshotRecord}


class InterruptedStore:
    """A store of which a test uses the moment after a record was read, and before anything is done with it."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._meanwhile: dict[str, Callable[[], object]] = {}

    def after_reading(self, record_id: str, action: Callable[[], object]) -> None:
        self._meanwhile[record_id] = action

    def get(self, kind: Any, record_id: str) -> Any:
        record = self._store.get(kind, record_id)
        if action := self._meanwhile.pop(record_id, None):
            action()
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture(autouse=True)
def gate() -> threading.Event:
    GatedDriver.gate.clear()
    GatedDriver.started.clear()
    return GatedDriver.gate


def serve_two(serve: Serve) -> tuple[Plugin, Plugin, InterruptedStore]:
    """A controller, another one beside it, and the store that the latter reads through."""
    other = serve(driver=GATED)
    store = InterruptedStore(other.store)
    return other, serve(beside=other, store=store), store


def creation(plugin: Plugin, kind: str, name: str, volume_id: str) -> Callable[[], Any]:
    """A function that begins the creation of an object."""
    match kind:
        case "volume":
            return lambda: plugin.controller.CreateVolume.future(create_request(name))
        case "snapshot":
            snapshot = csi_pb2.CreateSnapshotRequest(name=name, source_volume_id=volume_id)
            return lambda: plugin.controller.CreateSnapshot.future(snapshot)
    group = csi_pb2.CreateVolumeGroupSnapshotRequest(name=name, source_volume_ids=[volume_id])
    return lambda: plugin.groups.CreateVolumeGroupSnapshot.future(group)


def delete(plugin: Plugin, kind: str, object_id: str, *, timeout: float | None = None) -> None:
    match kind:
        case "volume":
            plugin.delete(object_id)
        case "snapshot":
            plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=object_id))
        case _:
            request = csi_pb2.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=object_id)
            plugin.groups.DeleteVolumeGroupSnapshot(request, timeout=timeout)


def only_id(plugin: Plugin, kind: str, name: str) -> str:
    (record,) = plugin.store.find(RECORDS[kind], csi_name=name)
    return str(record.id)


def interrupt(plugin: Plugin, kind: str, object_id: str) -> None:
    """Leave the record as a crash does after the driver's work."""
    record = plugin.store.get(RECORDS[kind], object_id)
    record.status, record.intent.phase = "creating", Phase.CREATING
    plugin.store.update(record)


@pytest.mark.parametrize("kind", KINDS)
def test_a_creation_that_another_controller_finishes_meanwhile_stays(
    serve: Serve, gate: threading.Event, kind: str
) -> None:
    other, plugin, store = serve_two(serve)
    volume_id = other.create("source").volume_id
    running = creation(other, kind, "gated", volume_id)()
    assert GatedDriver.started.wait(60)
    object_id = only_id(other, kind, "gated")

    def finish() -> None:
        gate.set()
        running.result(60)

    store.after_reading(object_id, finish)
    with fails(Code.ABORTED, object_id, "has just been created"):
        delete(plugin, kind, object_id)

    record = other.store.get(RECORDS[kind], object_id)
    assert (record.status, record.intent.phase) == ("available", Phase.READY)
    delete(plugin, kind, object_id)
    assert other.store.get(RECORDS[kind], object_id) is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_creation_that_a_repeat_replaces_meanwhile_is_gone(
    serve: Serve, gate: threading.Event, kind: str
) -> None:
    gate.set()
    other, plugin, store = serve_two(serve)
    create = creation(plugin, kind, "name", other.create("source").volume_id)
    create().result(60)
    first = only_id(plugin, kind, "name")
    interrupt(plugin, kind, first)

    store.after_reading(first, lambda: create().result(60))
    delete(plugin, kind, first)

    attempts = plugin.store.find(RECORDS[kind], csi_name="name")
    phases = {record.intent.generation: record.intent.phase for record in attempts}
    assert phases == {1: Phase.ORPHAN, 2: Phase.READY}


def test_a_group_snapshot_stays_while_a_volume_is_created_from_it(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=GATED)
    creation(plugin, "group-snapshot", "group", plugin.create("source").volume_id)().result(60)
    group_snapshot_id = only_id(plugin, "group-snapshot", "group")
    (member,) = plugin.store.find(SnapshotRecord)
    running = plugin.controller.CreateVolume.future(
        create_request("gated", volume_content_source=from_snapshot(member.id))
    )
    assert GatedDriver.started.wait(60)

    with fails(Code.ABORTED, member.id, "source"):
        in_time(lambda timeout: delete(plugin, "group-snapshot", group_snapshot_id, timeout=timeout))
    gate.set()
    assert running.result(60).volume.content_source.snapshot.snapshot_id == member.id


@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_that_another_controller_ends_meanwhile_is_one(
    serve: Serve, gate: threading.Event, kind: str
) -> None:
    """One that stood still in it goes on, and ends it before it knows that it leads no more."""
    gate.set()
    other, plugin, store = serve_two(serve)
    creation(plugin, kind, "name", other.create("source").volume_id)().result(60)
    object_id = only_id(plugin, kind, "name")
    store.after_reading(object_id, lambda: delete(other, kind, object_id))
    delete(plugin, kind, object_id)
    assert other.store.get(RECORDS[kind], object_id) is None
