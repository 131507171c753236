"""Who a node is, as it registers at the controller."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from csi_plugin.protocol import node_registry_pb2
from csi_plugin.protocol.errors import invalid_argument

STAGED_VOLUMES = "csi_staged_volumes"
"""Entry of the connector: ids of volumes that the node has staged, and that nothing else keeps it from writing to."""

ATTACHED_VOLUMES = "csi_attached_volumes"
"""Entry of the connector: ids of all volumes whose device the node has, or had when it was identified."""

UNFENCED = "unfenced"
"""Entry of a volume's publish_context ("true"): it is such a one."""

NODE_ID_BYTES = 255
"""At most, of a node that registers: what a key in a database may have. CSI allows one more."""

CONNECTOR_LIMIT = 64 * 1024
"""Bytes of JSON; a node with a hundred Fibre Channel ports stays far below."""


@dataclass(frozen=True, kw_only=True)
class NodeIdentity:
    """What a node tells of itself."""

    node_id: str
    connector: Mapping[str, Any]
    """os-brick's connector properties: who the node is on the storage network."""
    public_key: bytes
    """Raw X25519: what the controller seals the node's connection information to."""
    topology: Mapping[str, str] = field(default_factory=dict)
    max_volumes: int = 0
    """0 for no limit."""


def to_request(identity: NodeIdentity) -> node_registry_pb2.RegisterNodeRequest:
    """The identity as it goes over the wire."""
    return node_registry_pb2.RegisterNodeRequest(
        node_id=identity.node_id,
        connector_json=json.dumps(dict(identity.connector)),
        public_key=identity.public_key,
        topology=identity.topology,
        max_volumes=identity.max_volumes,
    )


def from_request(request: node_registry_pb2.RegisterNodeRequest) -> NodeIdentity:
    """The identity that came over the wire; its values are not checked. Raises INVALID_ARGUMENT."""
    return NodeIdentity(
        node_id=request.node_id,
        connector=_parse_connector(request.connector_json),
        public_key=request.public_key,
        topology=dict(request.topology),
        max_volumes=request.max_volumes,
    )


def _parse_connector(text: str) -> dict[str, Any]:
    try:
        connector = json.loads(text) if len(text) <= CONNECTOR_LIMIT else None
    except (ValueError, RecursionError):
        connector = None
    if not isinstance(connector, dict):
        raise invalid_argument(f"connector_json must be a JSON object of at most {CONNECTOR_LIMIT} bytes")
    return connector
