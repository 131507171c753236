"""The node registry between hosts: over TCP, with certificates on both sides."""

import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_plugin.node.registration import RemoteRegistry
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc, node_registry_pb2, node_registry_pb2_grpc
from csi_plugin.server.registry_certificates import RegistryCertificates
from csi_plugin.server.settings import load
from tests.support.certificates import NODE, Authority
from tests.support.csi import fails
from tests.support.polling import wait_until
from tests.support.serving import Served

pytestmark = pytest.mark.root


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def address(tmp_path: Path, authority: Authority) -> Iterator[str]:
    """Where a controller's registry listens at which a node has registered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    environment = {
        "CINDERBOX_REGISTRY_ENDPOINT": f"tcp://{address}",
        "CINDERBOX_REGISTRY_TLS_CA": str(authority.ca),
        "CINDERBOX_REGISTRY_TLS_CERTIFICATE": str(authority.certificate),
        "CINDERBOX_REGISTRY_TLS_KEY": str(authority.key),
    }
    controller = Served(tmp_path, mode="controller", environment=environment, name="controller")
    node = Served(tmp_path, mode="node", environment=environment, name="node")
    try:
        controller.start()
        node.start()
        wait_until(lambda: "the node is registered" in node.log.read_text(), node.log_text)
        yield address
        assert controller.stop() == 0
    finally:
        node.close()
        controller.close()


def test_a_certificate_is_good_for_the_registry_alone(address: str, authority: Authority, tmp_path: Path) -> None:
    question = node_registry_pb2.GetConnectionRequest(node_id=NODE, volume_id="none")
    with authority.channel(address) as channel:
        with pytest.raises(grpc.RpcError, match="no volume has the id"):
            node_registry_pb2_grpc.NodeRegistryStub(channel).GetConnection(question, timeout=60)
        with fails(grpc.StatusCode.UNIMPLEMENTED):
            csi_pb2_grpc.ControllerStub(channel).ListVolumes(csi_pb2.ListVolumesRequest(), timeout=60)
    with authority.channel(address) as channel:
        registry = node_registry_pb2_grpc.NodeRegistryStub(channel)
        for call, request in (
            (registry.RegisterNode, node_registry_pb2.RegisterNodeRequest(node_id="other", public_key=bytes(32))),
            (registry.GetConnection, node_registry_pb2.GetConnectionRequest(node_id="other", volume_id="none")),
            (registry.RecordFilesystem, node_registry_pb2.RecordFilesystemRequest(node_id="other", volume_id="none")),
        ):
            with fails(grpc.StatusCode.PERMISSION_DENIED, "is of localhost, test-node"):
                call(request, timeout=60)
    stranger = Authority(tmp_path / "stranger")
    stranger.ca = authority.ca
    for channel in (authority.channel(address, certificate=False), stranger.channel(address)):
        with channel, fails(grpc.StatusCode.UNAVAILABLE):
            node_registry_pb2_grpc.NodeRegistryStub(channel).GetConnection(question, timeout=60)


def test_certificates_that_are_renewed_on_disk_are_read_again(
    address: str, authority: Authority, tmp_path: Path
) -> None:
    """By the controller and, for their next call, by nodes: all of them, the authority's too."""
    settings = load(
        {
            "mode": "node",
            "registry_endpoint": f"tcp://{address}",
            "registry_tls_ca": authority.ca,
            "registry_tls_certificate": authority.certificate,
            "registry_tls_key": authority.key,
        }
    )
    certificates = RegistryCertificates(settings)
    node = RemoteRegistry(lambda: certificates.channel(address))

    def answers(registry: RemoteRegistry) -> None:
        with pytest.raises(grpc.RpcError, match="no volume has the id"):
            registry.connection("test-node", "none")

    answers(node)
    old = authority.channel(address)
    first_key = authority.key.read_bytes()
    Authority(authority.ca.parent)  # writes new ones in the same files
    answers(node)
    with old, fails(grpc.StatusCode.UNAVAILABLE):
        question = node_registry_pb2.GetConnectionRequest(node_id="test-node", volume_id="none")
        node_registry_pb2_grpc.NodeRegistryStub(old).GetConnection(question, timeout=60)

    authority.key.write_bytes(first_key)  # half of a renewal: the last ones that fit each other are good
    answers(node)
    with Authority(tmp_path / "stranger").channel(address) as stranger, fails(grpc.StatusCode.UNAVAILABLE):
        node_registry_pb2_grpc.NodeRegistryStub(stranger).GetConnection(question, timeout=60)
