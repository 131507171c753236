"""What the sidecars of a cluster send at once, at their counts of workers."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.protocol import csi_pb2, node_registry_pb2, node_registry_pb2_grpc
from tests.support.csi import Mode, block, create_request
from tests.support.serving import Served, serving

pytestmark = pytest.mark.root

PROVISIONER, ATTACHER = 100, 10
"""Their workers."""
DEADLINE = 60
"""Theirs are 10 and 15 seconds; how busy the test's machine is must not count."""
PODS = 30
SHARED = block(Mode.MULTI_NODE_MULTI_WRITER)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    registry = f"unix://{tmp_path}/registry.sock"
    environment = {"CINDERBOX_REGISTRY_ENDPOINT": registry}
    with serving(tmp_path, mode="controller", environment=environment) as one, grpc.insecure_channel(registry) as nodes:
        stub = node_registry_pb2_grpc.NodeRegistryStub(nodes)
        for number in range(PODS):
            connector = {"host": f"node-{number}", "ip": f"192.0.2.{number + 1}", "initiator": f"iqn.{number}"}
            stub.RegisterNode(
                node_registry_pb2.RegisterNodeRequest(
                    node_id=f"node-{number}", connector_json=json.dumps(connector), public_key=bytes([number + 1]) * 32
                )
            )
        yield one


class Sidecar:
    """Sends calls as one does, and counts their statuses."""

    def __init__(self, codes: Counter[str], *, workers: int) -> None:
        self._codes, self._workers = codes, workers

    def send(self, method: Callable[..., Any], requests: list[Any]) -> list[Any]:
        def call(request: Any) -> Any:
            try:
                answer = method(request, timeout=DEADLINE)
            except grpc.RpcError as error:
                self._codes[f"{error.code().name}: {error.details()}"] += 1
                return None
            self._codes["OK"] += 1
            return answer

        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(call, requests))


def test_a_statefulset_of_30_with_a_shared_block_volume_starts_without_one_refusal(served: Served) -> None:
    """Each pod has a volume of its own, and the shared one."""
    codes: Counter[str] = Counter()
    provisioner, attacher = Sidecar(codes, workers=PROVISIONER), Sidecar(codes, workers=ATTACHER)
    controller = served.controller
    claims = [create_request(f"own-{number}", volume_capabilities=[block()]) for number in range(PODS)]
    claims.append(create_request("shared", volume_capabilities=[SHARED]))
    *own, shared = (answer.volume.volume_id for answer in provisioner.send(controller.CreateVolume, claims))

    uses = [
        use
        for number in range(PODS)
        for use in ((own[number], f"node-{number}", block()), (shared, f"node-{number}", SHARED))
    ]
    published = [
        csi_pb2.ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node_id, volume_capability=mode)
        for volume_id, node_id, mode in uses
    ]
    attacher.send(controller.ControllerPublishVolume, published)
    unpublished = [
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id=node_id) for volume_id, node_id, _ in uses
    ]
    attacher.send(controller.ControllerUnpublishVolume, unpublished)
    gone = [csi_pb2.DeleteVolumeRequest(volume_id=volume_id) for volume_id in (*own, shared)]
    provisioner.send(controller.DeleteVolume, gone)
    assert codes == {"OK": len(claims) + len(published) + len(unpublished) + len(gone)}
    assert served.files() == []
