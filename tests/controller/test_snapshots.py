"""CreateSnapshot, DeleteSnapshot and the group controller."""

import grpc
import pytest

from csi_plugin.persistence.records import GroupRecord, GroupSnapshotRecord, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import GIB, fails, from_snapshot

Code = grpc.StatusCode


def delete(plugin: Plugin, snapshot_id: str) -> None:
    plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id))


def listed(plugin: Plugin) -> list[csi_pb2.Snapshot]:
    return [entry.snapshot for entry in plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest()).entries]


def group(plugin: Plugin, name: str, *volume_ids: str) -> csi_pb2.VolumeGroupSnapshot:
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(name=name, source_volume_ids=volume_ids)
    return plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot


@pytest.mark.parametrize("of", ["snapshot", "group", "attributes"])
def test_no_room_is_final_for_the_sidecars(serve: Serve, of: str) -> None:
    """They take RESOURCE_EXHAUSTED for work in progress: a VolumeSnapshot could not be deleted, and would be made
    later all the same; a claim could not be given its former class."""
    plugin = serve(driver="tests.controller.drivers.FullDriver")
    volume_id = plugin.create("pvc-1").volume_id
    attributes = csi_pb2.ControllerModifyVolumeRequest(
        volume_id=volume_id, mutable_parameters={"extra_specs.tier": "gold"}
    )
    call, code = {
        "snapshot": (lambda: plugin.snapshot("snapshot-1", volume_id), Code.FAILED_PRECONDITION),
        "group": (lambda: group(plugin, "group-1", volume_id), Code.FAILED_PRECONDITION),
        "attributes": (lambda: plugin.controller.ControllerModifyVolume(attributes), Code.INVALID_ARGUMENT),
    }[of]
    with fails(code, "No space left on device"):
        call()


def test_parameters_of_group_snapshots(plugin: Plugin) -> None:
    """Kubernetes' storage suite has deletionPolicy among the parameters of its classes."""
    volume_id = plugin.create("pvc-1").volume_id

    def create(**parameters: str) -> str:
        request = csi_pb2.CreateVolumeGroupSnapshotRequest(
            name="group", source_volume_ids=[volume_id], parameters=parameters
        )
        return plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot.group_snapshot_id

    with fails(Code.INVALID_ARGUMENT, "deletionpolicy"):
        create(deletionpolicy="Delete")
    assert create(deletionPolicy="Delete") == create(deletionPolicy="Delete")


def get_group(plugin: Plugin, group_snapshot_id: str, *snapshot_ids: str) -> csi_pb2.VolumeGroupSnapshot:
    request = csi_pb2.GetVolumeGroupSnapshotRequest(group_snapshot_id=group_snapshot_id, snapshot_ids=snapshot_ids)
    return plugin.groups.GetVolumeGroupSnapshot(request).group_snapshot


def delete_group(plugin: Plugin, group_snapshot_id: str, *snapshot_ids: str) -> None:
    plugin.groups.DeleteVolumeGroupSnapshot(
        csi_pb2.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=group_snapshot_id, snapshot_ids=snapshot_ids)
    )


def test_a_claim_as_large_as_the_first_one_is_enough_for_its_snapshot(plugin: Plugin) -> None:
    """Sidecars refuse a smaller claim than what the snapshot's answer says, before the driver is asked."""
    asked = csi_pb2.CapacityRange(required_bytes=100 << 20)
    volume = plugin.create("pvc-1", capacity_range=asked)
    (member,) = group(plugin, "group", volume.volume_id).snapshots
    for name, snapshot in (("alone", plugin.snapshot("snap", volume.volume_id)), ("member", member)):
        assert snapshot.size_bytes == asked.required_bytes
        source = from_snapshot(snapshot.snapshot_id)
        restored = plugin.create(name, capacity_range=asked, volume_content_source=source)
        assert restored.capacity_bytes == volume.capacity_bytes == GIB
        assert plugin.snapshot(f"of-{name}", restored.volume_id).size_bytes == asked.required_bytes
    plugin.controller.ControllerExpandVolume(
        csi_pb2.ControllerExpandVolumeRequest(
            volume_id=volume.volume_id, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB)
        )
    )
    assert plugin.snapshot("larger", volume.volume_id).size_bytes == 2 * GIB


def test_snapshot_life(plugin: Plugin) -> None:
    volume_id = plugin.create("pvc-1", 2).volume_id

    snapshot = plugin.snapshot("snap", volume_id)

    assert snapshot.ready_to_use
    assert (snapshot.source_volume_id, snapshot.size_bytes) == (volume_id, 2 * GIB)
    assert snapshot.creation_time.seconds > 1_600_000_000
    assert plugin.snapshot("snap", volume_id) == snapshot
    delete(plugin, snapshot.snapshot_id)
    delete(plugin, snapshot.snapshot_id)
    assert plugin.files() == [f"volume-{volume_id}"]
    assert plugin.store.find(SnapshotRecord) == []


def test_repeat_answers_after_the_source_is_deleted(plugin: Plugin) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    snapshot = plugin.snapshot("snap", volume_id)
    plugin.delete(volume_id)

    assert plugin.snapshot("snap", volume_id) == snapshot
    with fails(Code.NOT_FOUND):
        plugin.snapshot("snap-2", volume_id)


def test_names_reach_cinder(plugin: Plugin) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    snapshot = plugin.snapshot(
        "snap",
        volume_id,
        parameters={
            "csi.storage.k8s.io/volumesnapshot/name": "daily",
            "csi.storage.k8s.io/volumesnapshot/namespace": "shop",
        },
    )

    record = plugin.store.get(SnapshotRecord, snapshot.snapshot_id)
    assert record.display_name == "shop/daily"
    assert record.metadata["cinderbox.io/name"] == "snap"


def test_errors(plugin: Plugin) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    other_id = plugin.create("pvc-2").volume_id
    plugin.snapshot("snap", volume_id)

    with fails(Code.INVALID_ARGUMENT, "name is required"):
        plugin.snapshot("", volume_id)
    with fails(Code.INVALID_ARGUMENT, "source_volume_id is required"):
        plugin.snapshot("x", "")
    with fails(Code.INVALID_ARGUMENT, "'colour'"):
        plugin.snapshot("x", volume_id, parameters={"colour": "red"})
    with fails(Code.NOT_FOUND, "source_volume_id"):
        plugin.snapshot("x", "nothing")
    with fails(Code.ALREADY_EXISTS, volume_id):
        plugin.snapshot("snap", other_id)
    with fails(Code.INVALID_ARGUMENT, "snapshot_id is required"):
        delete(plugin, "")
    delete(plugin, "nothing")
    delete(plugin, "no\x00thing")


def test_snapshots_are_usable_where_their_backend_is(serve: Serve) -> None:
    plugin = serve(topology=[{"zone": "a"}])
    here = csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology(segments={"zone": "a"})])
    elsewhere = csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology(segments={"zone": "b"})])
    volume_id = plugin.create("pvc-1").volume_id

    snapshot = plugin.snapshot("snap", volume_id, accessibility_requirements=here)

    assert [dict(topology.segments) for topology in snapshot.accessible_topology] == [{"zone": "a"}]
    assert plugin.snapshot("snap", volume_id) == snapshot
    with fails(Code.ALREADY_EXISTS, "accessibility_requirements"):
        plugin.snapshot("snap", volume_id, accessibility_requirements=elsewhere)
    with fails(Code.RESOURCE_EXHAUSTED, "accessibility_requirements"):
        plugin.snapshot("snap-2", volume_id, accessibility_requirements=elsewhere)
    with fails(Code.INVALID_ARGUMENT, "accessibility_requirements.requisite[0]"):
        plugin.snapshot(
            "snap-2",
            volume_id,
            accessibility_requirements=csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology()]),
        )


def test_snapshot_that_clones_need_goes_with_the_last_of_them(serve: Serve) -> None:
    """CDI's smart clones, for one: a snapshot, volumes of it, and the snapshot is deleted."""
    plugin = serve(driver="tests.controller.drivers.LinkedDriver")
    volume_id = plugin.create("pvc-1").volume_id
    snapshot = plugin.snapshot("snap", volume_id)
    clones = [plugin.create(f"clone-{n}", volume_content_source=from_snapshot(snapshot.snapshot_id)) for n in range(2)]

    delete(plugin, snapshot.snapshot_id)
    delete(plugin, snapshot.snapshot_id)

    assert listed(plugin) == []
    assert f"snapshot-{snapshot.snapshot_id}" in plugin.files()
    with fails(Code.NOT_FOUND, snapshot.snapshot_id):
        plugin.create("more", volume_content_source=from_snapshot(snapshot.snapshot_id))
    again = plugin.snapshot("snap", volume_id)
    assert again.snapshot_id != snapshot.snapshot_id
    delete(plugin, again.snapshot_id)
    plugin.delete(volume_id)
    plugin.delete(clones[0].volume_id)
    assert f"snapshot-{snapshot.snapshot_id}" in plugin.files()
    plugin.delete(clones[1].volume_id)
    assert plugin.files() == []
    assert plugin.store.find(SnapshotRecord) == plugin.store.find(VolumeRecord) == []


def test_deferred_snapshot_is_finished_after_a_restart(serve: Serve) -> None:
    plugin = serve()
    volume_id = plugin.create("pvc-1").volume_id
    snapshot = plugin.snapshot("snap", volume_id)
    record = plugin.store.get(SnapshotRecord, snapshot.snapshot_id)
    record.status, record.intent.phase = "deleting", Phase.DEFERRED
    plugin.store.update(record)

    plugin.delete(volume_id)
    again = serve(directory=plugin.directory)
    again.service.recovery.run_once()

    assert plugin.store.find(SnapshotRecord) == plugin.store.find(VolumeRecord) == plugin.files() == []


def test_snapshots_of_a_group_are_deleted_alone(plugin: Plugin) -> None:
    """Backup tools give up the group object, and then delete what was in it."""
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    made = group(plugin, "group", *volumes)
    first, second = (snapshot.snapshot_id for snapshot in made.snapshots)
    assert [snapshot.group_snapshot_id for snapshot in listed(plugin)] == ["", ""]

    delete(plugin, first)

    assert [snapshot.snapshot_id for snapshot in listed(plugin)] == [second]
    assert [file for file in plugin.files() if file.startswith("snapshot-")] == [f"snapshot-{second}"]
    left = get_group(plugin, made.group_snapshot_id, first, second)
    assert [snapshot.snapshot_id for snapshot in left.snapshots] == [second]
    assert left.snapshots[0].group_snapshot_id == left.group_snapshot_id == made.group_snapshot_id
    delete(plugin, second)
    assert plugin.store.find(GroupSnapshotRecord) == plugin.store.find(SnapshotRecord) == []
    delete_group(plugin, made.group_snapshot_id, first, second)
    for volume_id in volumes:
        plugin.delete(volume_id)
    assert plugin.files() == plugin.store.find(GroupRecord) == []


def test_group_snapshot_is_deleted_after_one_of_it_was(plugin: Plugin) -> None:
    made = group(plugin, "group", *(plugin.create(f"pvc-{number}").volume_id for number in range(2)))
    first, second = (snapshot.snapshot_id for snapshot in made.snapshots)
    delete(plugin, first)
    with fails(Code.INVALID_ARGUMENT, "snapshot_ids"):
        delete_group(plugin, made.group_snapshot_id, first)
    delete_group(plugin, made.group_snapshot_id, first, second)
    assert plugin.store.find(GroupSnapshotRecord) == plugin.store.find(SnapshotRecord) == []


def test_snapshots_that_the_storage_holds_together_go_with_the_last_of_them(serve: Serve) -> None:
    """Arrays take a group snapshot as one object, whose parts cannot go alone."""
    plugin = serve(driver="tests.controller.drivers.JointDriver")
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    made = group(plugin, "group", *volumes)
    first, second = (snapshot.snapshot_id for snapshot in made.snapshots)

    delete(plugin, first)
    delete(plugin, first)

    assert [snapshot.snapshot_id for snapshot in listed(plugin)] == [second]
    assert f"snapshot-{first}" in plugin.files()
    plugin.delete(volumes[0])
    clone = plugin.create("clone", volume_content_source=from_snapshot(second))
    delete(plugin, second)
    plugin.delete(clone.volume_id)
    plugin.delete(volumes[1])
    assert plugin.files() == []
    for kind in (GroupRecord, GroupSnapshotRecord, SnapshotRecord, VolumeRecord):
        assert plugin.store.find(kind) == []


def test_group_snapshot_that_clones_need_goes_with_the_last_of_them(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.LinkedDriver")
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    made = group(plugin, "group", *volumes)
    first, second = (snapshot.snapshot_id for snapshot in made.snapshots)
    clone = plugin.create("clone", volume_content_source=from_snapshot(second))

    delete_group(plugin, made.group_snapshot_id, first, second)

    assert listed(plugin) == []
    with fails(Code.NOT_FOUND, "group_snapshot_id"):
        get_group(plugin, made.group_snapshot_id)
    assert [file for file in plugin.files() if file.startswith("snapshot-")] == [f"snapshot-{second}"]
    plugin.delete(clone.volume_id)
    assert [file for file in plugin.files() if file.startswith("snapshot-")] == []
    assert plugin.store.find(GroupSnapshotRecord) == plugin.store.find(SnapshotRecord) == []


def test_group_snapshot_life(plugin: Plugin) -> None:
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(3)]

    made = group(plugin, "group", *volumes)

    assert made.ready_to_use
    assert {snapshot.source_volume_id for snapshot in made.snapshots} == set(volumes)
    assert {snapshot.group_snapshot_id for snapshot in made.snapshots} == {made.group_snapshot_id}
    assert group(plugin, "group", *reversed(volumes)) == made
    ids = [snapshot.snapshot_id for snapshot in made.snapshots]
    assert get_group(plugin, made.group_snapshot_id, *ids) == made
    listed = plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest()).entries
    assert {entry.snapshot.snapshot_id for entry in listed} == set(ids)

    restored = plugin.create("restored", volume_content_source=from_snapshot(ids[0]))
    plugin.delete(restored.volume_id)
    delete_group(plugin, made.group_snapshot_id, *ids)
    delete_group(plugin, made.group_snapshot_id, *ids)
    for volume_id in volumes:
        plugin.delete(volume_id)
    assert plugin.files() == []
    for kind in (GroupRecord, GroupSnapshotRecord, SnapshotRecord, VolumeRecord):
        assert plugin.store.find(kind) == []


def test_group_snapshots_of_changing_sets_of_volumes(plugin: Plugin) -> None:
    first, second, third, fourth = (plugin.create(f"pvc-{number}").volume_id for number in range(4))

    for number, wanted in enumerate(
        [(first, second), (first, second, third), (second,), (third, fourth), (first, second, third, fourth)]
    ):
        made = group(plugin, f"group-{number}", *wanted)
        assert {snapshot.source_volume_id for snapshot in made.snapshots} == set(wanted)


def test_deleting_a_volume_of_a_group_keeps_its_snapshot(plugin: Plugin) -> None:
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    made = group(plugin, "group", *volumes)

    plugin.delete(volumes[0])
    assert plugin.list() == [volumes[1]]
    assert get_group(plugin, made.group_snapshot_id) == made
    delete_group(plugin, made.group_snapshot_id)
    assert plugin.files() == [f"volume-{volumes[1]}"]


def test_group_goes_with_the_last_of_its_volumes_and_snapshots(plugin: Plugin) -> None:
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    made = group(plugin, "group", *volumes)
    for volume_id in volumes:
        plugin.delete(volume_id)
    assert plugin.list() == []

    delete_group(plugin, made.group_snapshot_id)

    assert plugin.files() == plugin.store.find(GroupRecord) == plugin.store.find(VolumeRecord) == []


def test_group_errors(plugin: Plugin) -> None:
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    made = group(plugin, "group", *volumes)

    with fails(Code.INVALID_ARGUMENT, "name is required"):
        group(plugin, "", *volumes)
    with fails(Code.INVALID_ARGUMENT, "source_volume_ids is required"):
        group(plugin, "x")
    with fails(Code.INVALID_ARGUMENT, "once"):
        group(plugin, "x", volumes[0], volumes[0])
    with fails(Code.INVALID_ARGUMENT, "empty"):
        group(plugin, "x", "")
    with fails(Code.NOT_FOUND, "nothing"):
        group(plugin, "x", "nothing")
    with fails(Code.ALREADY_EXISTS, "'group'"):
        group(plugin, "group", volumes[0])
    with fails(Code.INVALID_ARGUMENT, "snapshot_ids"):
        delete_group(plugin, made.group_snapshot_id, "other")
    with fails(Code.INVALID_ARGUMENT, "snapshot_ids"):
        get_group(plugin, made.group_snapshot_id, "other")
    with fails(Code.INVALID_ARGUMENT, "group_snapshot_id is required"):
        get_group(plugin, "")
    with fails(Code.NOT_FOUND, "group_snapshot_id"):
        get_group(plugin, "nothing")
    with fails(Code.INVALID_ARGUMENT, "group_snapshot_id is required"):
        delete_group(plugin, "")
    delete_group(plugin, "nothing", "nothing")


def test_group_snapshots_that_the_driver_cannot_take(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.PlainDriver")
    volume_id = plugin.create("pvc-1").volume_id

    claimed = plugin.groups.GroupControllerGetCapabilities(csi_pb2.GroupControllerGetCapabilitiesRequest())
    assert not claimed.capabilities
    with fails(Code.FAILED_PRECONDITION, "consistent"):
        group(plugin, "group", volume_id)


def test_group_snapshots_are_claimed(plugin: Plugin) -> None:
    answer = plugin.groups.GroupControllerGetCapabilities(csi_pb2.GroupControllerGetCapabilitiesRequest())
    rpc = csi_pb2.GroupControllerServiceCapability.RPC
    assert [claim.rpc.type for claim in answer.capabilities] == [rpc.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT]
    assert "groups" in plugin.service.offers()
