"""The generated modules are importable by their absolute names and typed."""

from pathlib import Path

import pytest

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc, node_registry_pb2, node_registry_pb2_grpc


def test_secret_fields_are_marked() -> None:
    field = csi_pb2.CreateVolumeRequest.DESCRIPTOR.fields_by_name["secrets"]

    assert field.GetOptions().Extensions[csi_pb2.csi_secret]


def test_node_registry_requests_round_trip() -> None:
    request = node_registry_pb2.RegisterNodeRequest(
        node_id="n1", connector_json="{}", public_key=bytes(32), topology={"zone": "a"}
    )

    assert node_registry_pb2.RegisterNodeRequest.FromString(request.SerializeToString()) == request
    assert hasattr(node_registry_pb2_grpc.NodeRegistryServicer, "GetConnection")


@pytest.mark.parametrize("module", [csi_pb2, csi_pb2_grpc, node_registry_pb2, node_registry_pb2_grpc])
def test_modules_have_type_stubs(module: object) -> None:
    source = Path(str(vars(module)["__file__"]))

    assert source.with_suffix(".pyi").exists()
