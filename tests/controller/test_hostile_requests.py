"""Whatever a caller sends gets a clean status, and nothing that it should not have reached is touched."""

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csi_plugin.protocol import csi_pb2, node_registry_pb2
from tests.controller.plugin import Plugin
from tests.support.csi import GIB, create_request, fails

Code = grpc.StatusCode
CLEAN = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION,
    Code.OUT_OF_RANGE,
    Code.RESOURCE_EXHAUSTED,
    Code.ABORTED,
}

hostile = st.sampled_from(
    [
        "",
        "\x00",
        "../../../etc/passwd",
        "$(reboot)",
        "`id`",
        "'; DROP TABLE volumes; --",
        "a" * 128,
        "a" * 129,
        "é" * 65,
        "-rf",
        "{}",
        "%s%n",
        "\u202e",
        "\ud7ff\U0010ffff",
        "volume\nname",
    ]
)
texts = st.one_of(hostile, st.text(st.characters(exclude_categories=["Cs"]), max_size=140))
keys = st.one_of(
    texts,
    st.sampled_from(["backend", "pool_name", "qos.a", "xtra_b", "a:b", "mkfs_options", "encryption", "qos_"]),
)
maps = st.dictionaries(keys, texts, max_size=4)
secrets = st.dictionaries(keys, texts.map(lambda text: f"{text} of nobody"), max_size=4)
"""No words that messages have: a server masks its callers' secrets in all that it says from then on, and Hypothesis
tries words out of our own code."""
numbers = st.one_of(st.sampled_from([0, 1, -1, GIB, GIB + 1, 2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
ranges = st.builds(csi_pb2.CapacityRange, required_bytes=numbers, limit_bytes=numbers)
modes = st.integers(-5, 12)


@st.composite
def capabilities(draw: st.DrawFn) -> csi_pb2.VolumeCapability:
    made = csi_pb2.VolumeCapability(access_mode=csi_pb2.VolumeCapability.AccessMode(mode=draw(modes)))
    match draw(st.integers(0, 2)):
        case 1:
            made.block.SetInParent()
        case 2:
            made.mount.fs_type = draw(texts)
            made.mount.mount_flags.extend(draw(st.lists(texts, max_size=3)))
    return made


@st.composite
def sources(draw: st.DrawFn) -> csi_pb2.VolumeContentSource:
    source = csi_pb2.VolumeContentSource()
    match draw(st.integers(0, 2)):
        case 1:
            source.snapshot.snapshot_id = draw(texts)
        case 2:
            source.volume.volume_id = draw(texts)
    return source


topologies = st.builds(csi_pb2.Topology, segments=maps)
requirements = st.builds(
    csi_pb2.TopologyRequirement,
    requisite=st.lists(topologies, max_size=2),
    preferred=st.lists(topologies, max_size=2),
)
either = st.booleans()
entries = st.one_of(st.integers(-(2**31), 2**31 - 1), st.just(1))


def status_of(call: Any, request: Message) -> grpc.StatusCode:
    try:
        call(request)
    except grpc.RpcError as error:
        assert error.details()
        return error.code()
    return Code.OK


def test_the_first_volume_that_is_not_there_ends_a_group_snapshot(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = plugin.store.get

    def get(kind: type[Any], record_id: str) -> Any:
        asked.append(record_id)
        return read(kind, record_id)

    monkeypatch.setattr(plugin.store, "get", get)
    ids = [plugin.create("pvc-1").volume_id, *(f"none-{number}" for number in range(1000))]
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(name="group", source_volume_ids=ids)
    with fails(Code.NOT_FOUND, "source_volume_ids", "'none-0'"):
        plugin.groups.CreateVolumeGroupSnapshot(request)
    assert [record_id for record_id in asked if record_id in ids[1:]] == ["none-0"]


REQUESTS: dict[str, st.SearchStrategy[Message]] = {
    "CreateVolume": st.builds(
        csi_pb2.CreateVolumeRequest,
        name=texts,
        capacity_range=ranges,
        volume_capabilities=st.lists(capabilities(), max_size=3),
        parameters=maps,
        mutable_parameters=maps,
        secrets=secrets,
        volume_content_source=st.none() | sources(),
        accessibility_requirements=st.none() | requirements,
    ),
    "DeleteVolume": st.builds(csi_pb2.DeleteVolumeRequest, volume_id=texts, secrets=secrets),
    "ControllerPublishVolume": st.builds(
        csi_pb2.ControllerPublishVolumeRequest,
        volume_id=texts,
        node_id=texts,
        volume_capability=st.none() | capabilities(),
        readonly=either,
        volume_context=maps,
    ),
    "ControllerUnpublishVolume": st.builds(
        csi_pb2.ControllerUnpublishVolumeRequest, volume_id=texts, node_id=texts, secrets=secrets
    ),
    "ValidateVolumeCapabilities": st.builds(
        csi_pb2.ValidateVolumeCapabilitiesRequest,
        volume_id=texts,
        volume_context=maps,
        volume_capabilities=st.lists(capabilities(), max_size=3),
        parameters=maps,
    ),
    "ListVolumes": st.builds(csi_pb2.ListVolumesRequest, max_entries=entries, starting_token=texts),
    "GetCapacity": st.builds(
        csi_pb2.GetCapacityRequest,
        volume_capabilities=st.lists(capabilities(), max_size=3),
        parameters=maps,
        accessible_topology=st.none() | topologies,
    ),
    "CreateSnapshot": st.builds(
        csi_pb2.CreateSnapshotRequest, name=texts, source_volume_id=texts, parameters=maps, secrets=secrets
    ),
    "DeleteSnapshot": st.builds(csi_pb2.DeleteSnapshotRequest, snapshot_id=texts),
    "ListSnapshots": st.builds(
        csi_pb2.ListSnapshotsRequest,
        max_entries=entries,
        starting_token=texts,
        source_volume_id=texts,
        snapshot_id=texts,
    ),
    "GetSnapshot": st.builds(csi_pb2.GetSnapshotRequest, snapshot_id=texts),
    "ControllerExpandVolume": st.builds(
        csi_pb2.ControllerExpandVolumeRequest,
        volume_id=texts,
        capacity_range=st.none() | ranges,
        volume_capability=st.none() | capabilities(),
    ),
    "ControllerGetVolume": st.builds(csi_pb2.ControllerGetVolumeRequest, volume_id=texts),
    "ControllerModifyVolume": st.builds(
        csi_pb2.ControllerModifyVolumeRequest, volume_id=texts, mutable_parameters=maps
    ),
    "ControllerGetVolumeHealth": st.builds(csi_pb2.ControllerGetVolumeHealthRequest, volume_id=texts),
    "ControllerListVolumeHealth": st.builds(
        csi_pb2.ControllerListVolumeHealthRequest, max_entries=entries, starting_token=texts
    ),
    "CreateVolumeGroupSnapshot": st.builds(
        csi_pb2.CreateVolumeGroupSnapshotRequest,
        name=texts,
        source_volume_ids=st.lists(texts, max_size=3),
        parameters=maps,
    ),
    "DeleteVolumeGroupSnapshot": st.builds(
        csi_pb2.DeleteVolumeGroupSnapshotRequest, group_snapshot_id=texts, snapshot_ids=st.lists(texts, max_size=3)
    ),
    "GetVolumeGroupSnapshot": st.builds(
        csi_pb2.GetVolumeGroupSnapshotRequest, group_snapshot_id=texts, snapshot_ids=st.lists(texts, max_size=3)
    ),
    "RegisterNode": st.builds(
        node_registry_pb2.RegisterNodeRequest,
        node_id=texts,
        connector_json=texts,
        public_key=st.binary(max_size=40),
        topology=maps,
    ),
    "GetConnection": st.builds(node_registry_pb2.GetConnectionRequest, node_id=texts, volume_id=texts),
}


@pytest.mark.parametrize("rpc", REQUESTS)
def test_every_request_gets_a_clean_status(plugin: Plugin, rpc: str) -> None:
    kept = plugin.create("kept").volume_id
    call = next(getattr(stub, rpc) for stub in (plugin.controller, plugin.groups, plugin.nodes) if hasattr(stub, rpc))

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(REQUESTS[rpc])
    def check(request: Message) -> None:
        assert status_of(call, request) in CLEAN

    check()
    assert kept in plugin.list()
    # The loop driver's directory has what the records say, and nothing else.
    assert plugin.files() == sorted(f"volume-{volume_id}" for volume_id in plugin.list())


def test_any_text_can_be_a_name_unless_the_spec_bans_it(plugin: Plugin) -> None:

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(name=texts, claim=texts, mkfs_options=texts, spec=texts)
    def check(name: str, claim: str, mkfs_options: str, spec: str) -> None:
        parameters = {
            "csi.storage.k8s.io/pvc/name": claim,
            "mkfs_options": mkfs_options,
            "extra_specs.test:limit": spec,
        }
        request = create_request(name, parameters=parameters)
        code = status_of(plugin.controller.CreateVolume, request)
        assert code in (Code.OK, Code.INVALID_ARGUMENT)
        if code is Code.OK:
            (volume_id,) = plugin.list()
            assert plugin.create(name, parameters=parameters).volume_id == volume_id
            plugin.delete(volume_id)
        assert plugin.files() == plugin.list() == []

    check()
