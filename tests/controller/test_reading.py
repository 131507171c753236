"""What is answered from records and cached stats: lists, single objects, capacity, validation, health, capabilities."""

import base64
import json
from dataclasses import replace
from typing import Any

import grpc
import pytest
import sqlalchemy

from csi_plugin.persistence.records import SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from tests.controller import drivers
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import GIB, Mode, block, capability, create_request, fails, mount
from tests.support.polling import wait_until

Code = grpc.StatusCode
SNAPSHOT_TOKEN = base64.b64encode(b'["snapshots","x"]').decode()


def pages(plugin: Plugin, size: int) -> list[list[str]]:
    found: list[list[str]] = []
    token = ""
    while True:
        answer = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=size, starting_token=token))
        found.append([entry.volume.volume_id for entry in answer.entries])
        token = answer.next_token
        if not token:
            return found


def test_volumes_in_pages(plugin: Plugin) -> None:
    volumes = sorted(plugin.create(f"pvc-{number}").volume_id for number in range(7))

    assert pages(plugin, 3) == [volumes[:3], volumes[3:6], volumes[6:]]
    assert pages(plugin, 7) == pages(plugin, 0) == pages(plugin, 100) == [volumes]


def test_page_follows_on_after_its_last_volume_was_deleted(plugin: Plugin) -> None:
    volumes = sorted(plugin.create(f"pvc-{number}").volume_id for number in range(4))
    first = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=2))
    plugin.delete(volumes[1])

    rest = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(starting_token=first.next_token))
    assert [entry.volume.volume_id for entry in rest.entries] == volumes[2:]


def token_after(volume_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(["volumes", volume_id]).encode()).decode()


@pytest.mark.parametrize(
    "token", ["invalid-token", "*", "W10=", SNAPSHOT_TOKEN, "é", token_after("a\0"), token_after("\ud800")]
)
def test_invalid_tokens_are_aborted(plugin: Plugin, token: str) -> None:
    with fails(Code.ABORTED, "starting_token"):
        plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(starting_token=token))
    if token != SNAPSHOT_TOKEN:
        with fails(Code.ABORTED, "starting_token"):
            plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(starting_token=token))
    with fails(Code.ABORTED, "starting_token"):
        plugin.controller.ControllerListVolumeHealth(csi_pb2.ControllerListVolumeHealthRequest(starting_token=token))


def test_pages_and_creations_read_no_more_records_than_they_need(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        plugin.create(f"pvc-{number}")
    find = plugin.store.find
    read: list[int] = []

    def counted(*arguments: Any, **keys: Any) -> Any:
        found = find(*arguments, **keys)
        read.append(len(found))
        return found

    monkeypatch.setattr(plugin.store, "find", counted)
    first = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=3))
    assert max(read) <= 4
    read.clear()
    plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=3, starting_token=first.next_token))
    assert max(read) <= 4
    read.clear()
    plugin.create("one-more")
    assert sum(read) == 0, "nothing else has that name"
    plugin.create("one-more")
    assert sum(read) == 1


@pytest.mark.parametrize("serve", ["memory_db"], indirect=True)
def test_connections_of_a_page_are_read_at_once(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volumes = sorted(plugin.create(f"pvc-{number}").volume_id for number in range(6))
    for volume_id in volumes[:3]:
        plugin.publish(volume_id, "node-1")
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "FROM volume_attachment" in statement:
            statements.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        entries = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=6)).entries
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)

    assert [list(entry.status.published_node_ids) for entry in entries] == [["node-1"]] * 3 + [[]] * 3
    assert len(statements) == 1


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
def test_lists_without_a_limit_fit_into_messages(serve: Serve) -> None:
    plugin = serve(topology=[{f"example.com/{'x' * 40}{number}": "x" * 60} for number in range(200)])
    kept = plugin.create("pvc-1").volume_id
    volume = plugin.store.get(VolumeRecord, kept)
    snapshot = plugin.store.get(SnapshotRecord, plugin.snapshot("snap-1", kept).snapshot_id)
    for number in range(200):
        plugin.store.create(replace(volume, id=f"{number:08}", intent=replace(volume.intent, name=f"pvc-{number}")))
        plugin.store.create(replace(snapshot, id=f"{number:08}", intent=replace(snapshot.intent, name=f"s-{number}")))

    def pages(call: Any, request: Any) -> list[list[Any]]:
        found: list[list[Any]] = []
        while not found or request.starting_token:
            answer = call(request)
            found.append(list(answer.entries))
            request.starting_token = answer.next_token
        return found

    volumes = pages(plugin.controller.ListVolumes, csi_pb2.ListVolumesRequest())
    assert len(volumes) == 2
    assert len({entry.volume.volume_id for page in volumes for entry in page}) == 201
    snapshots = pages(plugin.controller.ListSnapshots, csi_pb2.ListSnapshotsRequest())
    assert len(snapshots) == 2
    assert len({entry.snapshot.snapshot_id for page in snapshots for entry in page}) == 201


def test_oversized_fields_of_lists_are_invalid(plugin: Plugin) -> None:
    with fails(Code.INVALID_ARGUMENT, "starting_token", "128"):
        plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(starting_token="x" * 129))
    with fails(Code.INVALID_ARGUMENT, "secrets", "4096"):
        plugin.controller.ControllerListVolumeHealth(
            csi_pb2.ControllerListVolumeHealthRequest(secrets={"key": "x" * 4096})
        )


def test_negative_max_entries_is_invalid(plugin: Plugin) -> None:
    with fails(Code.INVALID_ARGUMENT, "max_entries"):
        plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=-1))
    with fails(Code.INVALID_ARGUMENT, "max_entries"):
        plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(max_entries=-1))
    with fails(Code.INVALID_ARGUMENT, "max_entries"):
        plugin.controller.ControllerListVolumeHealth(csi_pb2.ControllerListVolumeHealthRequest(max_entries=-1))


def test_snapshots_by_volume_and_id_and_in_pages(plugin: Plugin) -> None:
    volumes = [plugin.create(f"pvc-{number}").volume_id for number in range(2)]
    snapshots = {
        plugin.snapshot(f"snap-{number}", volumes[number % 2]).snapshot_id: volumes[number % 2] for number in range(5)
    }

    def listed(**fields: object) -> list[str]:
        answer = plugin.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(**fields))
        found = [entry.snapshot.snapshot_id for entry in answer.entries]
        if answer.next_token:
            found += listed(**(fields | {"starting_token": answer.next_token}))
        return found

    assert listed() == listed(max_entries=2) == sorted(snapshots)
    of_first = sorted(found for found, volume in snapshots.items() if volume == volumes[0])
    assert listed(source_volume_id=volumes[0]) == listed(source_volume_id=volumes[0], max_entries=1) == of_first
    assert listed(snapshot_id=of_first[0]) == [of_first[0]]
    assert listed(snapshot_id=of_first[0], source_volume_id=volumes[1]) == []
    assert listed(snapshot_id="nothing") == listed(source_volume_id="no\x00thing") == []
    got = plugin.controller.GetSnapshot(csi_pb2.GetSnapshotRequest(snapshot_id=of_first[0])).snapshot
    assert got.source_volume_id == volumes[0]
    with fails(Code.NOT_FOUND, "snapshot_id"):
        plugin.controller.GetSnapshot(csi_pb2.GetSnapshotRequest(snapshot_id="nothing"))
    with fails(Code.INVALID_ARGUMENT, "snapshot_id is required"):
        plugin.controller.GetSnapshot(csi_pb2.GetSnapshotRequest())


def test_get_volume(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume = plugin.create("pvc-1")
    plugin.publish(volume.volume_id, "node-1")

    answer = plugin.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id=volume.volume_id))
    assert answer.volume == volume
    assert list(answer.status.published_node_ids) == ["node-1"]
    with fails(Code.NOT_FOUND, "volume_id"):
        plugin.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id="nothing"))
    with fails(Code.INVALID_ARGUMENT, "volume_id is required"):
        plugin.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest())


def test_volumes_that_the_library_created_are_listed(plugin: Plugin) -> None:
    volume = plugin.service._context.backends.ready()[0].create_volume(1, name="mine")

    assert plugin.list() == [volume.id]
    plugin.delete(volume.id)
    assert plugin.files() == []


def test_capacity(serve: Serve) -> None:
    plugin = serve(topology=[{"zone": "a"}])

    def capacity(**fields: object) -> csi_pb2.GetCapacityResponse:
        return plugin.controller.GetCapacity(csi_pb2.GetCapacityRequest(**fields))

    whole = capacity()
    assert whole.available_capacity > GIB
    assert 0 < whole.maximum_volume_size.value <= whole.available_capacity
    assert whole.minimum_volume_size.value == GIB
    assert capacity(parameters={"backend": "loop"}).available_capacity > 0
    assert capacity(parameters={"backend": "other"}).available_capacity == 0
    assert capacity(accessible_topology=csi_pb2.Topology(segments={"zone": "b"})).available_capacity == 0
    assert capacity(accessible_topology=csi_pb2.Topology(segments={"zone": "a"})).available_capacity > 0
    with fails(Code.INVALID_ARGUMENT, "'bakend'", "backend?"):
        capacity(parameters={"bakend": "loop"})
    with fails(Code.INVALID_ARGUMENT, "access type"):
        capacity(volume_capabilities=[csi_pb2.VolumeCapability()])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"parameters": {"mkfs_options": "-d /etc"}}, ["parameters.mkfs_options", "'-d'", "not an option"]),
        ({"parameters": {"mkfs_options": "-L 'data"}}, ["parameters.mkfs_options", "quotation"]),
        (
            {"parameters": {"mkfs_options": "-O quota"}, "volume_capabilities": [capability("xfs")]},
            ["mkfs_options", "xfs"],
        ),
        ({"parameters": {"qos.total_iops_sec": "100"}}, ["backend loop", "no QoS"]),
        ({"volume_capabilities": [capability(flags=("nosiud",))]}, ["volume_capabilities.mount", "nosiud"]),
    ],
)
def test_there_is_no_room_to_tell_for_what_creation_refuses(
    plugin: Plugin, fields: dict[str, Any], named: list[str]
) -> None:
    with fails(Code.INVALID_ARGUMENT, *named):
        plugin.controller.CreateVolume(create_request("pvc-1", **fields))
    with fails(Code.INVALID_ARGUMENT, *named):
        plugin.controller.GetCapacity(csi_pb2.GetCapacityRequest(**fields))


def test_room_of_a_backend_that_starts_is_not_known(serve: Serve) -> None:
    """An answer of no room would be what the CO goes by until it asks again, after a minute."""
    slow = {"volume_backend_name": "slow", "volume_driver": "tests.controller.drivers.UnreachableDriver"}
    drivers.UnreachableDriver.answered.clear()
    plugin = serve(others=[slow | {"loop_volumes_dir": "/nowhere"}], wait=False)
    wait_until(lambda: bool(plugin.backends.ready()), lambda: str(plugin.backends.status()))

    def capacity(backend: str) -> csi_pb2.GetCapacityResponse:
        return plugin.controller.GetCapacity(csi_pb2.GetCapacityRequest(parameters={"backend": backend}))

    with fails(Code.UNAVAILABLE, "backend slow is starting"):
        capacity("slow")
    anywhere = plugin.controller.GetCapacity(csi_pb2.GetCapacityRequest())
    assert anywhere.available_capacity == capacity("loop").available_capacity > 0
    drivers.UnreachableDriver.answered.set()
    assert plugin.backends.wait_until_attempted(30)
    assert capacity("slow").available_capacity == 0


def test_validation(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.TunableDriver")
    volume = plugin.create("pvc-1", parameters={"qos.a": "1"})

    def validate(volume_id: str = volume.volume_id, **fields: object) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        fields.setdefault("volume_capabilities", [mount()])
        return plugin.controller.ValidateVolumeCapabilities(
            csi_pb2.ValidateVolumeCapabilitiesRequest(volume_id=volume_id, **fields)
        )

    good = validate(volume_context=volume.volume_context, parameters={"qos.a": "1"}, mutable_parameters={"qos.a": "1"})
    assert good.confirmed.volume_context == volume.volume_context
    assert good.confirmed.mutable_parameters == {"qos.a": "1"}
    assert list(good.confirmed.volume_capabilities) == [mount()]
    assert good.confirmed.parameters == {"qos.a": "1"}
    # Kubernetes' external-provisioner adds an entry of its own.
    assert validate(volume_context={"storage.kubernetes.io/csiProvisionerIdentity": "it"}).HasField("confirmed")
    for fields in (
        {"volume_capabilities": [mount(Mode.MULTI_NODE_MULTI_WRITER)]},
        {"volume_capabilities": [block(Mode.MULTI_NODE_MULTI_WRITER)]},
        {"volume_context": {"a": "b"}},
        {"parameters": {"qos.a": "2"}},
        {"mutable_parameters": {"qos.a": "2"}},
        {"mutable_parameters": {"qos.b": "1"}},
        {"mutable_parameters": {"unknown": "1"}},
    ):
        bad = validate(**fields)
        assert not bad.HasField("confirmed")
        assert bad.message
    with fails(Code.NOT_FOUND, "volume_id"):
        validate("nothing")
    with fails(Code.INVALID_ARGUMENT, "volume_id is required"):
        validate("")
    with fails(Code.INVALID_ARGUMENT, "volume_capabilities is required"):
        validate(volume_capabilities=[])


def expand(plugin: Plugin, volume_id: str, size: int, **fields: object) -> csi_pb2.ControllerExpandVolumeResponse:
    fields.setdefault("capacity_range", csi_pb2.CapacityRange(required_bytes=size * GIB))
    return plugin.controller.ControllerExpandVolume(
        csi_pb2.ControllerExpandVolumeRequest(volume_id=volume_id, **fields)
    )


def test_expansion(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")

    answer = expand(plugin, volume_id, 3, volume_capability=mount())

    assert (answer.capacity_bytes, answer.node_expansion_required) == (3 * GIB, True)
    assert (plugin.directory / f"volume-{volume_id}").stat().st_size == 3 * GIB
    assert expand(plugin, volume_id, 2).capacity_bytes == 3 * GIB
    with fails(Code.OUT_OF_RANGE, "do not shrink"):
        expand(plugin, volume_id, 0, capacity_range=csi_pb2.CapacityRange(limit_bytes=2 * GIB))
    with fails(Code.OUT_OF_RANGE, "limit_bytes"):
        too_tight = csi_pb2.CapacityRange(required_bytes=3 * GIB + 1, limit_bytes=3 * GIB + 2)
        expand(plugin, volume_id, 0, capacity_range=too_tight)
    with fails(Code.INVALID_ARGUMENT, "volume_id is required"):
        expand(plugin, "", 1)
    with fails(Code.INVALID_ARGUMENT, "capacity_range is required"):
        expand(plugin, volume_id, 1, capacity_range=None)
    with fails(Code.INVALID_ARGUMENT, "required_bytes or limit_bytes"):
        expand(plugin, volume_id, 0)
    with fails(Code.INVALID_ARGUMENT, "MULTI_NODE_MULTI_WRITER"):
        expand(plugin, volume_id, 4, volume_capability=mount(Mode.MULTI_NODE_MULTI_WRITER))
    with fails(Code.INVALID_ARGUMENT, "volume_capability"):
        expand(plugin, volume_id, 4, volume_capability=block(Mode.MULTI_NODE_MULTI_WRITER))
    with fails(Code.NOT_FOUND, "volume_id"):
        expand(plugin, "nothing", 1)


def test_expansion_beyond_the_pool(serve: Serve) -> None:
    plugin = serve(options={"max_over_subscription_ratio": "1"})
    volume_id = plugin.create("pvc-1").volume_id
    free = plugin.controller.GetCapacity(csi_pb2.GetCapacityRequest()).available_capacity // GIB

    # Final for a CO, which may then ask for less; RESOURCE_EXHAUSTED would not be.
    with fails(Code.OUT_OF_RANGE, "capacity_range.required_bytes", "CapacityFilter", "GiB free"):
        expand(plugin, volume_id, 2 * free + 100)

    assert plugin.store.get(VolumeRecord, volume_id).status == "available"
    assert expand(plugin, volume_id, 2).capacity_bytes == 2 * GIB
    # Nothing is held for what was refused.
    assert expand(plugin, volume_id, 3).capacity_bytes == 3 * GIB


def test_expansion_of_a_published_volume_that_the_driver_cannot_do(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.PlainDriver")
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")

    with fails(Code.FAILED_PRECONDITION, "node-1"):
        expand(plugin, volume_id, 2)
    plugin.unpublish(volume_id)
    assert expand(plugin, volume_id, 2).capacity_bytes == 2 * GIB


def test_expansion_goes_on_after_a_crash(plugin: Plugin) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    record = plugin.store.get(VolumeRecord, volume_id)
    record.previous_status, record.status = "available", "extending"
    plugin.store.update(record)

    assert expand(plugin, volume_id, 2).capacity_bytes == 2 * GIB
    assert plugin.store.get(VolumeRecord, volume_id).status == "available"


def modify(plugin: Plugin, volume_id: str, **parameters: str) -> None:
    plugin.controller.ControllerModifyVolume(
        csi_pb2.ControllerModifyVolumeRequest(volume_id=volume_id, mutable_parameters=parameters)
    )


def test_modification(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.TunableDriver")
    volume_id = plugin.create("pvc-1", parameters={"qos.a": "1", "vendor:x": "1"}).volume_id

    modify(plugin, volume_id, **{"qos.b": "2", "extra_specs.vendor:x": "3"})
    modify(plugin, volume_id, **{"qos.b": "2"})

    record = plugin.store.get(VolumeRecord, volume_id)
    assert (record.extra_specs, record.qos_specs) == ({"vendor:x": "3"}, {"a": "1", "b": "2"})
    # The name still answers with the parameters of the first request.
    assert plugin.create("pvc-1", parameters={"qos.a": "1", "vendor:x": "1"}).volume_id == volume_id
    with fails(Code.INVALID_ARGUMENT, "'pool_name'"):
        modify(plugin, volume_id, pool_name="x")
    with fails(Code.NOT_FOUND, "volume_id"):
        modify(plugin, "nothing", **{"qos.b": "2"})
    with fails(Code.INVALID_ARGUMENT, "volume_id is required"):
        modify(plugin, "", **{"qos.b": "2"})
    with fails(Code.NOT_FOUND, "volume_id"):
        modify(plugin, "nothing")
    modify(plugin, volume_id)
    assert plugin.store.get(VolumeRecord, volume_id).qos_specs == {"a": "1", "b": "2"}


def test_a_volume_says_why_it_could_not_be_expanded_or_deleted(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.FaultyDriver")
    volume_id = plugin.create("rigid-undeletable").volume_id

    def condition() -> str:
        return str(plugin.store.get(VolumeRecord, volume_id).intent.condition)

    with fails(Code.INTERNAL, "cannot grow"):
        expand(plugin, volume_id, 2)
    assert "could not be extended" in condition()
    assert "cannot grow" in condition()
    with fails(Code.INTERNAL, "cannot be deleted"):
        plugin.delete(volume_id)
    assert "could not be deleted" in condition()


def test_modification_that_the_driver_cannot_do_is_an_invalid_argument(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.FaultyDriver")
    volume_id = plugin.create("rigid").volume_id

    with fails(Code.INVALID_ARGUMENT, "mutable_parameters"):
        modify(plugin, volume_id, **{"extra_specs.a": "1"})
    assert plugin.store.get(VolumeRecord, volume_id).extra_specs == {}


def test_capabilities(plugin: Plugin) -> None:
    rpc = csi_pb2.ControllerServiceCapability.RPC
    claimed = plugin.controller.ControllerGetCapabilities(csi_pb2.ControllerGetCapabilitiesRequest()).capabilities

    assert sorted(claim.rpc.type for claim in claimed) == sorted(set(rpc.Type.values()) - {rpc.UNKNOWN})
