"""Whatever a caller sends to the node and identity services gets a clean status, and nothing else is touched."""

import base64
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.sealed_box import public_key_of, seal_to_node
from tests.controller.test_hostile_requests import (
    CLEAN,
    capabilities,
    either,
    hostile,
    maps,
    ranges,
    secrets,
    status_of,
    texts,
)
from tests.support.claims import MakeClaim
from tests.support.csi import fails
from tests.support.serving import Served

names = st.one_of(
    texts, st.sampled_from([".", "./x", "x//y", "x" * 256, "x/" * 2040, "file/below", "loop/x", "é" * 200])
)


def requests(folder: Path) -> dict[str, st.SearchStrategy[Message]]:
    """Paths are in a folder of the test: what a node is told to remove, it may remove."""
    paths = st.one_of(hostile.filter(lambda text: not text.startswith("/")), names.map(lambda name: f"{folder}/{name}"))
    capability = st.none() | capabilities()
    contexts = maps | st.fixed_dictionaries({"connection": texts})
    return {
        "NodeStageVolume": st.builds(
            csi_pb2.NodeStageVolumeRequest,
            volume_id=texts,
            publish_context=contexts,
            staging_target_path=paths,
            volume_capability=capability,
            secrets=secrets,
            volume_context=maps,
        ),
        "NodeUnstageVolume": st.builds(csi_pb2.NodeUnstageVolumeRequest, volume_id=texts, staging_target_path=paths),
        "NodePublishVolume": st.builds(
            csi_pb2.NodePublishVolumeRequest,
            volume_id=texts,
            publish_context=contexts,
            staging_target_path=paths,
            target_path=paths,
            volume_capability=capability,
            readonly=either,
            secrets=secrets,
            volume_context=maps,
        ),
        "NodeUnpublishVolume": st.builds(csi_pb2.NodeUnpublishVolumeRequest, volume_id=texts, target_path=paths),
        "NodeGetVolumeStats": st.builds(
            csi_pb2.NodeGetVolumeStatsRequest, volume_id=texts, volume_path=paths, staging_target_path=paths
        ),
        "NodeExpandVolume": st.builds(
            csi_pb2.NodeExpandVolumeRequest,
            volume_id=texts,
            volume_path=paths,
            capacity_range=st.none() | ranges,
            staging_target_path=paths,
            volume_capability=capability,
            secrets=secrets,
        ),
        "NodeGetVolumeHealth": st.builds(
            csi_pb2.NodeGetVolumeHealthRequest, volume_id=texts, volume_publish_path=paths, staging_target_path=paths
        ),
        "NodeGetStorageHealth": st.builds(csi_pb2.NodeGetStorageHealthRequest, secrets=secrets),
        "NodeGetInfo": st.builds(csi_pb2.NodeGetInfoRequest),
        "NodeGetCapabilities": st.builds(csi_pb2.NodeGetCapabilitiesRequest),
        "Probe": st.builds(csi_pb2.ProbeRequest),
        "GetPluginInfo": st.builds(csi_pb2.GetPluginInfoRequest),
        "GetPluginCapabilities": st.builds(csi_pb2.GetPluginCapabilitiesRequest),
    }


@pytest.mark.parametrize("rpc", requests(Path("/x")))
def test_every_request_gets_a_clean_status(server: Served, tmp_path: Path, rpc: str) -> None:
    folder = tmp_path / "paths"
    folder.mkdir()
    (folder / "file").write_text("kept")
    (folder / "loop").symlink_to(folder / "loop")
    stub: Any = next(stub for stub in (server.node, server.identity) if hasattr(stub, rpc))

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests(folder)[rpc], st.randoms(use_true_random=False))
    def check(request: Message, random: Any) -> None:
        assert status_of(getattr(stub, rpc), request) in CLEAN
        mutated = bytearray(request.SerializeToString())
        for _ in range(random.randint(0, 3) if mutated else 0):
            mutated[random.randrange(len(mutated))] = random.randrange(256)
        # Paths may have become others: this is for what only reads, and for bytes that are no request.
        if rpc in ("NodeGetVolumeStats", "NodeGetVolumeHealth", "NodeGetStorageHealth", "Probe"):
            service = "Identity" if rpc == "Probe" else "Node"
            assert status_of(server.channel.unary_unary(f"/csi.v1.{service}/{rpc}"), bytes(mutated)) in CLEAN

    check()
    assert (folder / "file").read_text() == "kept"
    assert server.is_running()
    server.wait_until_ready()


@pytest.mark.parametrize(
    ("protocol", "data", "field"),
    [
        ("nfs", {"export": "server:/volumes", "name": "one", "options": "-o helper=/tmp/x"}, "data.options"),
        ("rbd", {"name": "a/b", "hosts": ["::1"], "ports": [1], "keyring": "admin socket = /x"}, "data.keyring"),
        ("local", {"device_path": "/dev/../etc/shadow"}, "data.device_path"),
        (
            "nvme",
            {"nqn": "nqn.x", "target_portal": "10.96.0.1", "target_port": 1, "transport_type": "tcp"},
            "10.96.0.1 is in the cluster's networks",
        ),
    ],
)
@pytest.mark.root
def test_a_connection_that_gets_at_the_host_is_neither_saved_nor_used(
    claim: MakeClaim, server: Served, protocol: str, data: dict[str, Any], field: str
) -> None:
    made = claim()
    plan = {"driver_volume_type": protocol, "data": data, "volume_id": made.id, "size": 1}
    plan["cluster_networks"] = ["10.96.0.0/12"]  # as the controller knows them
    key = public_key_of((server.state / "node/node.key").read_bytes())
    sealed = seal_to_node(key, json.dumps(plan).encode(), associated_data=f"test-node/{made.id}".encode())
    with fails(grpc.StatusCode.FAILED_PRECONDITION, f"publish_context.connection: {field}"):
        made.stage(publish_context={**made.context, "connection": base64.b64encode(sealed).decode()})
    assert list((server.state / "node/volumes").glob("*")) == []
