"""What a node registers with, over the wire."""

import grpc
import pytest

from csi_plugin.protocol import node_identity
from csi_plugin.protocol.errors import RpcError
from csi_plugin.protocol.host_names import changed_properties
from csi_plugin.protocol.node_identity import CONNECTOR_LIMIT, NodeIdentity


def test_identity_comes_as_it_was_sent() -> None:
    identity = NodeIdentity(
        node_id="node-1",
        connector={"initiator": "iqn.2010-10.org.example:node", "wwpns": ["50014380242b9750"]},
        public_key=bytes(range(32)),
        topology={"zone": "a"},
        max_volumes=16,
    )
    assert node_identity.from_request(node_identity.to_request(identity)) == identity


HOST = {"initiator": "iqn.a", "nqn": "nqn.a", "wwpns": ["5001"], "sdc_guid": "B87D", "ip": "192.0.2.1"}


@pytest.mark.parametrize(
    ("protocol", "counting"),
    [
        ("iSCSI", "initiator"),
        ("fibre_channel", "wwpns"),
        ("nvme", "nqn"),
        ("nvmeof", "nqn"),
        ("scaleio", "sdc_guid"),
    ],
)
def test_what_a_host_is_known_by_depends_on_the_protocol(protocol: str, counting: str) -> None:
    for name in HOST:
        changed = HOST | {name: "another"}
        assert changed_properties(HOST, changed) == changed_properties(HOST, changed, protocol="nfs") == [name]
        assert changed_properties(HOST, changed, protocol=protocol) == ([name] if name == counting else [])


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": "' + "b" * CONNECTOR_LIMIT + '"}'])
def test_connectors_that_are_refused(text: str) -> None:
    request = node_identity.to_request(NodeIdentity(node_id="node-1", connector={}, public_key=b""))
    request.connector_json = text
    with pytest.raises(RpcError, match="connector_json must be a JSON object") as caught:
        node_identity.from_request(request)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
