"""Many calls at once, slow storage, and callers that give up."""

import threading
from typing import Any

import grpc
import pytest

from csi_plugin.persistence.records import ConnectionRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from tests.controller.drivers import SlowDriver
from tests.controller.plugin import Plugin, Serve, in_threads
from tests.support.csi import Mode, block, create_request, fails, from_volume, in_time, mount
from tests.support.polling import wait_until

Code = grpc.StatusCode
SLOW = "tests.controller.drivers.SlowDriver"


@pytest.fixture
def gate() -> threading.Event:
    SlowDriver.gate.clear()
    SlowDriver.started.clear()
    SlowDriver.entered.clear()
    return SlowDriver.gate


def test_32_identical_requests_make_one_volume(serve: Serve) -> None:
    plugin = serve(driver=SLOW)

    answers = in_threads(32, lambda _: plugin.controller.CreateVolume(create_request("pvc-1")).volume)

    assert len({answer.volume_id for answer in answers}) == 1
    assert len(plugin.files()) == len(plugin.store.find(VolumeRecord)) == 1


def test_32_creations_run_side_by_side_while_lists_answer(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=SLOW)
    names = {f"gated-{number}" for number in range(32)}
    running = [plugin.controller.CreateVolume.future(create_request(name)) for name in names]

    wait_until(lambda: set(SlowDriver.entered) == names, lambda: SlowDriver.entered)
    assert plugin.list() == []  # answered while the driver is at all of them
    gate.set()

    assert len({answer.result(30).volume.volume_id for answer in running}) == len(plugin.files()) == 32


def test_conflicting_request_waits_for_its_turn(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=SLOW)
    running = plugin.controller.CreateVolume.future(create_request("gated"))
    assert SlowDriver.started.wait(60)

    with fails(Code.ABORTED, "volume-name/gated has been running for"):
        in_time(lambda timeout: plugin.controller.CreateVolume(create_request("gated", 2), timeout=timeout))
    waiting = plugin.controller.CreateVolume.future(create_request("gated", 2), timeout=30)
    gate.set()
    assert running.result(60).volume.volume_id
    with fails(Code.ALREADY_EXISTS):
        waiting.result(30)


def test_repeat_waits_up_to_its_own_deadline(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=SLOW)
    running = plugin.controller.CreateVolume.future(create_request("gated"))
    assert SlowDriver.started.wait(60)

    with fails(Code.ABORTED, "volume-name/gated has been running for"):
        in_time(lambda timeout: plugin.controller.CreateVolume(create_request("gated"), timeout=timeout))
    waiting = plugin.controller.CreateVolume.future(create_request("gated"))
    gate.set()
    assert waiting.result(60) == running.result(10)


def test_volume_that_is_being_created_cannot_be_deleted(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=SLOW)
    running = plugin.controller.CreateVolume.future(create_request("gated"))
    assert SlowDriver.started.wait(60)
    (record,) = plugin.store.find(VolumeRecord)

    assert plugin.list() == []
    with fails(Code.ABORTED, record.id):
        in_time(lambda timeout: plugin.delete(record.id, timeout=timeout))
    gate.set()
    assert running.result(60).volume.volume_id == record.id


def test_cancelled_call_goes_on_and_leaks_nothing(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=SLOW)
    running = plugin.controller.CreateVolume.future(create_request("gated"))
    assert SlowDriver.started.wait(60)
    running.cancel()
    gate.set()
    assert plugin.service._context.inflight.drain(60)

    volume = plugin.create("gated")
    assert plugin.list() == [volume.volume_id]
    assert len(plugin.files()) == 1
    plugin.delete(volume.volume_id)
    assert plugin.files() == []


def test_expired_deadline_leaks_nothing(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=SLOW)
    with fails(Code.DEADLINE_EXCEEDED):
        plugin.controller.CreateVolume(create_request("gated"), timeout=0.5)
    assert SlowDriver.started.wait(60)
    gate.set()
    assert plugin.service._context.inflight.drain(60)

    (volume_id,) = plugin.list()
    assert plugin.create("gated").volume_id == volume_id
    plugin.delete(volume_id)
    assert plugin.files() == plugin.store.find(VolumeRecord) == plugin.service._context.inflight.running() == []


def test_no_read_waits_behind_a_storage_all_of_whose_workers_are_busy(serve: Serve, gate: threading.Event) -> None:
    plugin = serve(driver=SLOW)
    there = plugin.create("there").volume_id
    running = [plugin.controller.CreateVolume.future(create_request(f"gated-{number}")) for number in range(40)]
    try:
        assert SlowDriver.started.wait(60)
        calls = (
            (plugin.controller.ListVolumes, csi_pb2.ListVolumesRequest()),
            (plugin.controller.ListSnapshots, csi_pb2.ListSnapshotsRequest()),
            (plugin.controller.GetCapacity, csi_pb2.GetCapacityRequest()),
            (plugin.controller.ControllerGetVolume, csi_pb2.ControllerGetVolumeRequest(volume_id=there)),
            (plugin.controller.ControllerGetVolumeHealth, csi_pb2.ControllerGetVolumeHealthRequest(volume_id=there)),
            (plugin.controller.ControllerListVolumeHealth, csi_pb2.ControllerListVolumeHealthRequest()),
            (plugin.controller.ControllerGetCapabilities, csi_pb2.ControllerGetCapabilitiesRequest()),
            (
                plugin.controller.ValidateVolumeCapabilities,
                csi_pb2.ValidateVolumeCapabilitiesRequest(volume_id=there, volume_capabilities=[mount()]),
            ),
        )
        for call, request in calls:
            call(request, timeout=30)  # type: ignore[operator]
    finally:
        gate.set()
    assert len({call.result(30).volume.volume_id for call in running}) == 40


def test_one_source_is_cloned_by_many_at_once_and_cannot_go_meanwhile(plugin: Plugin) -> None:
    source = plugin.create("source").volume_id

    answers = in_threads(8, lambda number: plugin.create(f"clone-{number}", volume_content_source=from_volume(source)))

    assert len({answer.volume_id for answer in answers}) == 8
    with plugin.service._context.source_locks.reading(f"volume/{source}"), fails(Code.ABORTED, source):
        in_time(lambda timeout: plugin.delete(source, timeout=timeout))


def test_publishing_to_one_node_many_times_at_once_makes_one_connection(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id

    answers = in_threads(16, lambda _: plugin.publish(volume_id, "node-1"))

    assert all(isinstance(answer, dict) for answer in answers), answers
    assert plugin.store.find(VolumeRecord)[0].attach_status == "attached"


def test_many_nodes_get_a_shared_volume_at_once(plugin: Plugin) -> None:
    """As when a StatefulSet of 30 with one raw block volume for all starts: no call has to be repeated."""
    mode = block(Mode.MULTI_NODE_MULTI_WRITER)
    volume_id = plugin.create("shared", volume_capabilities=[mode]).volume_id
    for number in range(30):
        plugin.add_node(f"node-{number}")

    def publish(number: int) -> None:
        request = publish_request(volume_id, f"node-{number}", mode)
        plugin.controller.ControllerPublishVolume(request, timeout=60)

    def unpublish(number: int) -> None:
        plugin.controller.ControllerUnpublishVolume(unpublish_request(volume_id, f"node-{number}"), timeout=60)

    assert in_threads(30, publish) == [None] * 30
    assert len(plugin.store.find(ConnectionRecord)) == 30
    assert in_threads(30, unpublish) == [None] * 30
    assert plugin.store.find(ConnectionRecord) == []


def test_a_request_is_not_overtaken_by_the_one_that_takes_it_back(plugin: Plugin) -> None:
    inflight = plugin.service._context.inflight
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    calls: list[Any] = []
    with inflight.hold(f"volume/{volume_id}"):
        (mark,) = inflight.running()
        for _ in range(5):
            publish = publish_request(volume_id, "node-1", mount())
            calls.append(plugin.controller.ControllerPublishVolume.future(publish, timeout=60))
            wait_until(lambda: mark.waiting == len(calls), lambda: mark)
            unpublish = unpublish_request(volume_id, "node-1")
            calls.append(plugin.controller.ControllerUnpublishVolume.future(unpublish, timeout=60))
            wait_until(lambda: mark.waiting == len(calls), lambda: mark)
    for call in calls:
        call.result(60)
    assert plugin.store.find(ConnectionRecord) == []


def publish_request(
    volume_id: str, node_id: str, mode: csi_pb2.VolumeCapability
) -> csi_pb2.ControllerPublishVolumeRequest:
    return csi_pb2.ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node_id, volume_capability=mode)


def unpublish_request(volume_id: str, node_id: str) -> csi_pb2.ControllerUnpublishVolumeRequest:
    return csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id=node_id)


def test_the_members_of_a_group_go_at_once(plugin: Plugin) -> None:
    """As a backup tool deletes the snapshots of a group, and a namespace its claims."""
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(6)]
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(name="group", source_volume_ids=volumes)
    members = plugin.groups.CreateVolumeGroupSnapshot(request, timeout=60).group_snapshot.snapshots

    def delete_snapshot(number: int) -> None:
        snapshot_id = members[number].snapshot_id
        plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id), timeout=60)

    def delete_volume(number: int) -> None:
        plugin.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volumes[number]), timeout=60)

    for act in (delete_snapshot, delete_volume):
        answers = in_threads(6, act)
        assert [answer for answer in answers if isinstance(answer, grpc.RpcError)] == []
    wait_until(lambda: plugin.files() == [], plugin.files)


def test_mixed_calls_for_one_volume_end_in_a_consistent_state(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id

    def act(number: int) -> object:
        match number % 4:
            case 0:
                return plugin.publish(volume_id, "node-1")
            case 1:
                return plugin.unpublish(volume_id, "node-1")
            case 2:
                return plugin.snapshot(f"snap-{number}", volume_id)
        return plugin.create("pvc-1")

    for answer in in_threads(24, act):
        if isinstance(answer, grpc.RpcError):
            assert answer.code() is Code.ABORTED, answer
    plugin.unpublish(volume_id)
    for entry in plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest()).entries:
        plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=entry.snapshot.snapshot_id))
    plugin.delete(volume_id)
    assert plugin.files() == []
