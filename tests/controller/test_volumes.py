"""CreateVolume and DeleteVolume."""

import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.controller import deleted_names
from csi_plugin.controller.deleted_names import PREFIX, DeletedNames
from csi_plugin.persistence.records import KeyValueRecord, Phase, VolumeRecord
from csi_plugin.protocol import csi_pb2
from tests.controller.plugin import Plugin, Serve, in_threads
from tests.support.csi import GIB, Mode, block, capability, create_request, fails, from_snapshot, from_volume, mount
from tests.support.project import LOOP_DRIVER

Code = grpc.StatusCode
TUNABLE = "tests.controller.drivers.TunableDriver"


def test_created_volume_is_on_the_storage_and_answers_its_size_and_backend(plugin: Plugin) -> None:
    volume = plugin.create("pvc-1", 2)

    assert uuid.UUID(volume.volume_id).version == 5
    assert volume.capacity_bytes == 2 * GIB
    assert dict(volume.volume_context) == {"cinderbox.io/backend": plugin.backends.ready()[0].name}
    assert plugin.files() == [f"volume-{volume.volume_id}"]


@pytest.mark.parametrize("name", ["shared-data", "pvc-5f0c3a9e-2b7d-4c11-9a56-0d1e2f3a4b5c"])
def test_the_id_of_a_deleted_volume_or_snapshot_is_never_given_again(plugin: Plugin, name: str) -> None:
    ids = []
    for _ in range(3):
        volume = plugin.create(name)
        assert plugin.create(name).volume_id == volume.volume_id
        snapshot = plugin.snapshot(name, volume.volume_id)
        assert plugin.snapshot(name, volume.volume_id).snapshot_id == snapshot.snapshot_id
        ids += [volume.volume_id, snapshot.snapshot_id]
        plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))
        plugin.delete(volume.volume_id)
        plugin.delete(volume.volume_id)  # late, and of one that is gone
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", ["shared-data", "pvc-5f0c3a9e-2b7d-4c11-9a56-0d1e2f3a4b5c"])
def test_no_restart_brings_the_id_of_a_deleted_volume_back(plugin: Plugin, serve: Serve, name: str) -> None:
    first = plugin.create(name).volume_id
    plugin.delete(first)
    plugin.backends.close()
    again = serve(directory=plugin.directory)
    second = again.create(name).volume_id
    assert second != first
    again.delete(first)
    assert again.create(name).volume_id == second
    assert again.files() == [f"volume-{second}"]


def test_deleted_names_that_kubernetes_makes_take_room_that_does_not_grow(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_names, "_SLOTS", 4)
    names = DeletedNames(plugin.store)
    uids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(600)]
    for uid in uids:
        names.remember("volume", f"pvc-{uid}", 1)
    slots = [found for found in plugin.store.find(KeyValueRecord) if found.id.startswith(PREFIX)]
    assert len(slots) == 4
    assert max(len(found.value or "") for found in slots) < 5_000
    assert [names.last_generation("volume", f"pvc-{uid}") for uid in uids[-100:]] == [1] * 100


def test_two_controllers_make_one_volume_of_a_name_that_was_deleted(serve: Serve) -> None:
    first = serve()
    deleted = first.create("shared-data").volume_id
    first.delete(deleted)
    second = serve(beside=first)
    made = in_threads(2, lambda index: (first, second)[index].create("shared-data"))
    ids = {volume.volume_id for volume in made if isinstance(volume, csi_pb2.Volume)}
    assert len(ids) == 1 and deleted not in ids
    assert {first.create("shared-data").volume_id, second.create("shared-data").volume_id} == ids


def test_repeat_gives_the_first_answer(plugin: Plugin) -> None:
    first = plugin.create("pvc-1", parameters={"mkfs_options": "-O quota"})

    assert plugin.create("pvc-1", parameters={"mkfs_options": "-O quota"}) == first
    assert len(plugin.files()) == 1


def test_repeat_gives_the_volume_of_a_record_from_an_earlier_version(plugin: Plugin) -> None:
    first = plugin.create("pvc-1")
    record = plugin.store.get(VolumeRecord, first.volume_id)
    assert record and record.intent
    assert record.intent.fingerprint == ""
    record.intent.fingerprint = "5f" * 32
    plugin.store.update(record)

    assert plugin.create("pvc-1") == first


def test_sizes_are_rounded_up_to_gib(plugin: Plugin) -> None:
    capacity = csi_pb2.CapacityRange(required_bytes=GIB + 1)

    assert plugin.create("pvc-1", capacity_range=capacity).capacity_bytes == 2 * GIB


def test_no_capacity_gives_one_gib(plugin: Plugin) -> None:
    request = csi_pb2.CreateVolumeRequest(name="pvc-1", volume_capabilities=[mount()])

    assert plugin.controller.CreateVolume(request).volume.capacity_bytes == GIB


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, ["name is required"]),
        ({"name": "a\x00b"}, ["name", "U+0000"]),
        ({"name": "x" * 129}, ["name", "128"]),
        ({"volume_capabilities": []}, ["volume_capabilities is required"]),
        ({"volume_capabilities": [csi_pb2.VolumeCapability()]}, ["access type"]),
        ({"volume_capabilities": [csi_pb2.VolumeCapability(mount={})]}, ["access_mode"]),
        ({"volume_capabilities": [mount(Mode.MULTI_NODE_MULTI_WRITER)]}, ["MULTI_NODE_MULTI_WRITER", "block"]),
        ({"capacity_range": csi_pb2.CapacityRange(required_bytes=-1)}, ["required_bytes", "-1"]),
        ({"capacity_range": csi_pb2.CapacityRange(required_bytes=2, limit_bytes=1)}, ["limit_bytes"]),
        ({"parameters": {"pool_nam": "x"}}, ["'pool_nam'", "did you mean pool_name?", "xtra_<name>"]),
        ({"mutable_parameters": {"backend": "x"}}, ["mutable_parameters", "'backend'"]),
        ({"parameters": {"qos.a": "1", "qos_a": "2"}}, ["given twice"]),
        ({"mutable_parameters": {"qos.a": "1", "qos_a": "2"}}, ["mutable_parameters", "given twice"]),
        ({"parameters": {"extra_specs.": "1"}}, ["name of a spec"]),
        ({"parameters": {"encryption": "rot13"}}, ["luks, luks2", "rot13"]),
        ({"parameters": {"encryption_cipher": "aes-xts-plain64"}}, ["encryption_cipher needs encryption"]),
        ({"parameters": {"mkfs_options": "x" * 5000}}, ["parameters", "4096"]),
        ({"volume_content_source": csi_pb2.VolumeContentSource()}, ["volume_content_source"]),
        ({"volume_content_source": from_snapshot("")}, ["snapshot_id is required"]),
        (
            {"accessibility_requirements": csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology()])},
            ["requisite[0].segments"],
        ),
    ],
)
def test_invalid_requests_name_the_field(plugin: Plugin, fields: dict[str, object], words: list[str]) -> None:
    request = create_request(**({"name": "pvc-1"} | fields))

    with fails(Code.INVALID_ARGUMENT, *words):
        plugin.controller.CreateVolume(request)
    assert plugin.files() == []


def test_limit_below_the_rounded_size_is_out_of_range(plugin: Plugin) -> None:
    with fails(Code.OUT_OF_RANGE, "limit_bytes"):
        plugin.create("pvc-1", capacity_range=csi_pb2.CapacityRange(required_bytes=1, limit_bytes=GIB - 1))


def test_absurd_size_is_out_of_range(plugin: Plugin) -> None:
    with fails(Code.OUT_OF_RANGE, "required_bytes"):
        plugin.create("pvc-1", capacity_range=csi_pb2.CapacityRange(required_bytes=2**63 - 1))


def test_no_room_is_resource_exhausted(plugin: Plugin) -> None:
    with fails(Code.RESOURCE_EXHAUSTED, "no pool fits"):
        plugin.create("pvc-1", 2_000_000_000)
    assert plugin.list() == []


@pytest.mark.parametrize(
    "second",
    [
        create_request("pvc-1", 2, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB)),
        create_request("pvc-1", 1, volume_capabilities=[block()]),
        create_request("pvc-1", 1, parameters={"qos.total_iops_sec": "5"}),
        create_request("pvc-1", 1, mutable_parameters={"qos.total_iops_sec": "5"}),
    ],
)
def test_same_name_with_other_arguments_already_exists(plugin: Plugin, second: csi_pb2.CreateVolumeRequest) -> None:
    plugin.create("pvc-1")

    with fails(Code.ALREADY_EXISTS, "'pvc-1'"):
        plugin.controller.CreateVolume(second)


def test_what_the_sidecars_add_does_not_tell_volumes_apart(serve: Serve) -> None:
    plugin = serve(driver=TUNABLE)
    volume = plugin.create("pvc-1", parameters={"qos.a": "1"})

    assert plugin.create("pvc-1", parameters={"qos.a": "1", "csi.storage.k8s.io/pvc/name": "data"}) == volume


def test_mutable_parameters_win_over_parameters(serve: Serve) -> None:
    plugin = serve(driver=TUNABLE)
    volume = plugin.create("pvc-1", parameters={"qos.a": "1", "qos.b": "1"}, mutable_parameters={"qos_a": "2"})

    record = plugin.store.get(VolumeRecord, volume.volume_id)
    assert record is not None
    assert record.qos_specs == {"a": "2", "b": "1"}


def test_same_name_from_another_source_or_for_another_place_already_exists(serve: Serve) -> None:
    plugin = serve(topology=[{"zone": "a"}])
    source = plugin.create("source")
    plugin.create("pvc-1")

    with fails(Code.ALREADY_EXISTS, "source"):
        plugin.create("pvc-1", volume_content_source=from_volume(source.volume_id))
    elsewhere = csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology(segments={"zone": "b"})])
    with fails(Code.ALREADY_EXISTS, "accessibility_requirements"):
        plugin.create("pvc-1", accessibility_requirements=elsewhere)


def test_same_name_with_a_range_that_the_volume_fits_is_the_same_volume(plugin: Plugin) -> None:
    volume = plugin.create("pvc-1", 2)

    wider = csi_pb2.CapacityRange(required_bytes=GIB, limit_bytes=3 * GIB)
    assert plugin.create("pvc-1", capacity_range=wider).volume_id == volume.volume_id


def test_qos_that_nobody_holds_to_is_refused(serve: Serve, tmp_path: Path) -> None:
    """A typing error was taken, and a limit by a driver without QoS: the volume was as fast as any."""
    plain = {"volume_backend_name": "plain", "volume_driver": LOOP_DRIVER, "loop_volumes_dir": str(tmp_path / "plain")}
    plugin = serve(driver=TUNABLE, others=[plain])
    volume_id = plugin.create("pvc-1", parameters={"qos.total_iops_sec": "5"}).volume_id
    assert plugin.store.get(VolumeRecord, volume_id).backend == "loop"
    plugin.create("pvc-2", parameters={"qos.total_iops_sec_per_gb": "0.5", "backend": "loop"})
    for parameters, words in (
        ({"qos.totl_iops_sec": "5"}, ("knows no QoS spec 'totl_iops_sec'", "did you mean total_iops_sec?")),
        ({"qos.total_iops_sec": "many"}, ("total_iops_sec must be a number, not 'many'",)),
        ({"qos.total_iops_sec": "5", "qos.consumer": "front-end"}, ("consumer must be back-end",)),
        ({"qos.total_iops_sec": "5", "backend": "plain"}, ("backend plain: its driver has no QoS",)),
    ):
        with fails(Code.INVALID_ARGUMENT, "parameters: ", *words):
            plugin.create("pvc-3", parameters=parameters)
        if "backend" not in parameters:
            request = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume_id, mutable_parameters=parameters)
            with fails(Code.INVALID_ARGUMENT, "mutable_parameters: ", *words):
                plugin.controller.ControllerModifyVolume(request)


@pytest.mark.parametrize(
    ("filesystem", "flags", "words"),
    [
        ("xfs", ("noatime", "nobarier"), "'nobarier' is no mount flag of xfs; did you mean nobarrier?"),
        ("ext4", ("nouuid",), "'nouuid' is no mount flag of ext4"),
        ("btrfs", ("NOATIME",), "'NOATIME' is no mount flag of btrfs"),
        ("", ("vers=4.2",), "'vers=4.2' is no mount flag of any filesystem"),
    ],
)
def test_mount_flags_that_no_kernel_knows_are_refused(
    plugin: Plugin, filesystem: str, flags: tuple[str, ...], words: str
) -> None:
    """The claim was bound, and its pods could never start."""
    with fails(Code.INVALID_ARGUMENT, "volume_capabilities.mount.mount_flags: ", words, "noatime"):
        plugin.create("pvc-1", volume_capabilities=[capability(filesystem, flags=flags)])


def test_specs_reach_cinder(serve: Serve) -> None:
    plugin = serve(driver=TUNABLE)
    volume = plugin.create(
        "pvc-1",
        parameters={"xtra_vendor:a": "1", "extra_specs.vendor:b": "2", "vendor:c": "3", "qos_d": "4", "qos.e": "5"},
        mutable_parameters={"qos.e": "6"},
    )

    record = plugin.store.get(VolumeRecord, volume.volume_id)
    assert record.extra_specs == {"vendor:a": "1", "vendor:b": "2", "vendor:c": "3"}
    assert record.qos_specs == {"d": "4", "e": "6"}


def test_names_of_cluster_and_claim_reach_cinder(serve: Serve) -> None:
    plugin = serve(cluster_name="prod", driver_name="csi.example.org")
    volume = plugin.create(
        "pvc-1",
        parameters={
            "csi.storage.k8s.io/pvc/name": "data",
            "csi.storage.k8s.io/pvc/namespace": "shop",
            "csi.storage.k8s.io/pv/name": "pvc-1",
        },
    )

    record = plugin.store.get(VolumeRecord, volume.volume_id)
    assert record.display_name == "prod/shop/data"
    assert record.display_description == "pvc-1 of csi.example.org for shop/data in cluster prod"
    assert record.metadata["csi.storage.k8s.io/pvc/namespace"] == "shop"
    assert record.metadata["cinderbox.io/cluster"] == "prod"


def test_secrets_are_not_recorded(plugin: Plugin) -> None:
    volume = plugin.create("pvc-1", secrets={"password": "hunter2"})

    assert "hunter2" not in repr(plugin.store.get(VolumeRecord, volume.volume_id))


def test_topology(serve: Serve) -> None:
    plugin = serve(topology=[{"zone": "a"}])
    here = csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology(segments={"zone": "a"})])
    elsewhere = csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology(segments={"zone": "b"})])

    volume = plugin.create("pvc-1", accessibility_requirements=here)
    assert [dict(topology.segments) for topology in volume.accessible_topology] == [{"zone": "a"}]
    with fails(Code.RESOURCE_EXHAUSTED):
        plugin.create("pvc-2", accessibility_requirements=elsewhere)
    with fails(Code.ALREADY_EXISTS, "accessibility_requirements"):
        plugin.create("pvc-1", accessibility_requirements=elsewhere)
    with fails(Code.RESOURCE_EXHAUSTED):
        plugin.create(
            "pvc-3", volume_content_source=from_volume(volume.volume_id), accessibility_requirements=elsewhere
        )


def test_topology_is_of_the_requisite_ones_where_not_all_of_them_are_met(serve: Serve) -> None:
    plugin = serve(topology=[{"zone": "a"}, {"zone": "b"}])

    def create(name: str, *zones: str, **fields: Any) -> list[str]:
        requisite = [csi_pb2.Topology(segments={"zone": zone}) for zone in zones]
        wanted = csi_pb2.TopologyRequirement(requisite=requisite)
        volume = plugin.create(name, accessibility_requirements=wanted, **fields)
        assert plugin.create(name, accessibility_requirements=wanted, **fields) == volume
        return [topology.segments["zone"] for topology in volume.accessible_topology]

    assert create("one", "b") == ["a", "b"]
    assert create("both", "a", "b", "c") == ["a", "b"]
    assert create("half", "b", "c") == ["b"]
    source = from_volume(plugin.create("source").volume_id)
    assert create("clone", "c", "a", volume_content_source=source) == ["a"]
    with fails(Code.RESOURCE_EXHAUSTED):
        create("none", "c", "d")


def test_volume_context_has_room_for_what_kubernetes_adds(plugin: Plugin) -> None:
    options = " ".join(["-m 1"] * 600)
    volume = plugin.create("pvc-1", parameters={"mkfs_options": options})
    assert sum(len(key) + len(value) for key, value in volume.volume_context.items()) < 4096 - 256
    with fails(Code.INVALID_ARGUMENT, "mkfs_options", "3072"):
        plugin.create("pvc-2", parameters={"mkfs_options": " ".join(["-m 1"] * 800)})


def test_several_backends(serve: Serve, tmp_path: Path) -> None:
    other = {"volume_backend_name": "other", "volume_driver": LOOP_DRIVER, "loop_volumes_dir": str(tmp_path / "other")}
    plugin = serve(others=[{**other, "topology": [{"zone": "b"}]}], topology=[{"zone": "a"}])
    in_b = csi_pb2.TopologyRequirement(requisite=[csi_pb2.Topology(segments={"zone": "b"})])

    named = plugin.create("named", parameters={"backend": "other", "pool_name": "other"})
    placed = plugin.create("placed", accessibility_requirements=in_b)
    first = plugin.create("first", parameters={"backend": "loop"})
    copied = plugin.create("copied", volume_content_source=from_volume(named.volume_id))

    assert {volume.volume_context["cinderbox.io/backend"] for volume in (named, placed, copied)} == {"other"}
    assert first.volume_context["cinderbox.io/backend"] == "loop"
    with fails(
        Code.INVALID_ARGUMENT, "parameters.backend: backend nowhere is not configured (configured: loop, other)"
    ):
        plugin.create("lost", parameters={"backend": "nowhere"})
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(
        name="group", source_volume_ids=[named.volume_id, first.volume_id]
    )
    with fails(Code.FAILED_PRECONDITION, "loop, other"):
        plugin.groups.CreateVolumeGroupSnapshot(request)


def test_nothing_is_made_or_changed_on_a_backend_that_nobody_has_configured(serve: Serve) -> None:
    plugin = serve()
    volume_id = plugin.create("pvc-1").volume_id
    record = plugin.store.get(VolumeRecord, volume_id)
    record.host = "host@gone#gone"
    plugin.store.update(record)
    of_group = csi_pb2.CreateVolumeGroupSnapshotRequest(name="group", source_volume_ids=[volume_id])
    growth = csi_pb2.ControllerExpandVolumeRequest(
        volume_id=volume_id, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB), volume_capability=mount()
    )
    change = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume_id, mutable_parameters={"xtra_a": "b"})
    for field, call in (
        ("volume_content_source", lambda: plugin.create("copy", volume_content_source=from_volume(volume_id))),
        ("source_volume_id", lambda: plugin.snapshot("snapshot-1", volume_id)),
        ("source_volume_ids", lambda: plugin.groups.CreateVolumeGroupSnapshot(of_group)),
        ("volume_id", lambda: plugin.controller.ControllerExpandVolume(growth)),
        ("volume_id", lambda: plugin.controller.ControllerModifyVolume(change)),
    ):
        # Final, so that the sidecars stop when nobody wants it any more; what has to go is tried again and again.
        with fails(Code.FAILED_PRECONDITION, f"{field}: its backend gone is not configured (configured: loop)"):
            call()
    with fails(Code.UNAVAILABLE, "backend gone is not configured"):
        plugin.delete(volume_id)


def test_backend_that_cannot_start_stops_nothing_else(serve: Serve) -> None:
    broken = {"volume_backend_name": "broken", "volume_driver": LOOP_DRIVER, "loop_volumes_dir": "/proc/nothing"}
    plugin = serve(others=[broken], wait=False)
    plugin.backends.wait_until_attempted(30)

    volume_id = plugin.create("pvc-1").volume_id
    record = plugin.store.get(VolumeRecord, volume_id)
    record.host = "host@broken#broken"
    plugin.store.update(record)

    assert plugin.list() == [volume_id]
    health = plugin.controller.ControllerGetVolumeHealth(
        csi_pb2.ControllerGetVolumeHealthRequest(volume_id=volume_id)
    ).volume_health
    assert [entry.reason for entry in health.health_statuses] == ["BackendUnavailable"]
    with fails(Code.UNAVAILABLE, "broken is not ready", "/proc/nothing"):
        plugin.create("pvc-2", parameters={"backend": "broken"})
    with fails(Code.UNAVAILABLE, "broken is not ready", "/proc/nothing"):
        plugin.delete(volume_id)
    with fails(Code.UNAVAILABLE, "broken is not ready"):
        plugin.snapshot("snap", volume_id)


def test_nothing_is_ready_yet(serve: Serve) -> None:
    plugin = serve()
    plugin.backends.close()

    with fails(Code.UNAVAILABLE, "no backend is ready"):
        plugin.create("pvc-1")
    assert plugin.list() == []


def test_disabled_features(serve: Serve) -> None:
    plugin = serve(disabled_features=frozenset({"clone", "snapshot", "expand", "block_rwx"}))
    volume = plugin.create("pvc-1")

    with fails(Code.INVALID_ARGUMENT, "disabled"):
        plugin.create("pvc-2", volume_content_source=from_volume(volume.volume_id))
    with fails(Code.UNIMPLEMENTED, "disabled"):
        plugin.snapshot("snap", volume.volume_id)
    with fails(Code.UNIMPLEMENTED, "disabled"):
        plugin.controller.ControllerExpandVolume(csi_pb2.ControllerExpandVolumeRequest(volume_id=volume.volume_id))
    with fails(Code.INVALID_ARGUMENT, "block_rwx"):
        plugin.create("pvc-3", volume_capabilities=[block(Mode.MULTI_NODE_MULTI_WRITER)])
    claimed = plugin.controller.ControllerGetCapabilities(csi_pb2.ControllerGetCapabilitiesRequest()).capabilities
    types = {claim.rpc.type for claim in claimed}
    rpc = csi_pb2.ControllerServiceCapability.RPC
    assert not types & {rpc.CLONE_VOLUME, rpc.CREATE_DELETE_SNAPSHOT, rpc.EXPAND_VOLUME}


def test_delete_removes_everything_and_can_be_repeated(plugin: Plugin) -> None:
    volume = plugin.create("pvc-1")

    plugin.delete(volume.volume_id)
    plugin.delete(volume.volume_id)

    assert plugin.files() == []
    assert plugin.store.find(VolumeRecord) == []


@pytest.mark.parametrize("volume_id", ["nothing", "no\x00thing", "../../etc/passwd", "'; drop table volumes"])
def test_delete_of_an_unknown_id_is_ok(plugin: Plugin, volume_id: str) -> None:
    plugin.delete(volume_id)
    assert plugin.list() == []


def test_delete_needs_an_id(plugin: Plugin) -> None:
    with fails(Code.INVALID_ARGUMENT, "volume_id is required"):
        plugin.delete("")


def test_delete_of_a_published_volume_is_refused(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume = plugin.create("pvc-1")
    plugin.publish(volume.volume_id, "node-1")

    with fails(Code.FAILED_PRECONDITION, "node-1"):
        plugin.delete(volume.volume_id)
    assert plugin.list() == [volume.volume_id]


def test_volume_with_snapshots_is_deleted_for_the_co_at_once_and_on_the_storage_with_the_last_snapshot(
    plugin: Plugin,
) -> None:
    volume = plugin.create("pvc-1")
    snapshot = plugin.snapshot("snap", volume.volume_id)

    plugin.delete(volume.volume_id)

    assert plugin.list() == []
    with fails(Code.NOT_FOUND):
        plugin.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id=volume.volume_id))
    assert len(plugin.files()) == 2
    record = plugin.store.get(VolumeRecord, volume.volume_id)
    assert record.intent.phase is Phase.DEFERRED
    plugin.delete(volume.volume_id)  # a repeat changes nothing

    # The snapshot is as good as before.
    restored = plugin.create("restored", volume_content_source=from_snapshot(snapshot.snapshot_id))
    plugin.delete(restored.volume_id)

    # The name is free for another volume.
    again = plugin.create("pvc-1", 3)
    assert again.volume_id != volume.volume_id
    assert plugin.store.get(VolumeRecord, again.volume_id).intent.generation == 2

    plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))
    assert plugin.files() == [f"volume-{again.volume_id}"]
    assert plugin.store.get(VolumeRecord, volume.volume_id) is None
