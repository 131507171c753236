"""The registry of nodes: who they are on the storage network, and the key that their connections are sealed to."""

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any

from csi_plugin.controller import initiator_conflicts, lookups
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.controller.sealed_connections import seal_connection
from csi_plugin.persistence.base import RecordExists, RecordNotFound, RevisionConflict
from csi_plugin.persistence.records import NodeRecord
from csi_plugin.protocol import node_registry_pb2, node_registry_pb2_grpc, request_rules
from csi_plugin.protocol.errors import RpcError, aborted, invalid_argument, not_found

LOG = logging.getLogger(__name__)

_KEY_BYTES = 32
_CONNECTOR_LIMIT = 64 * 1024
"""Bytes; a node with a hundred Fibre Channel ports stays far below."""
_WRITE_ATTEMPTS = 5


class NodeRegistryService(node_registry_pb2_grpc.NodeRegistryServicer):
    """Serves ``cinderbox.v1.NodeRegistry``; in mode ``all`` the server calls register() and connection() directly."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    def RegisterNode(
        self, request: node_registry_pb2.RegisterNodeRequest, call: Any
    ) -> node_registry_pb2.RegisterNodeResponse:
        try:
            connector = json.loads(request.connector_json) if len(request.connector_json) <= _CONNECTOR_LIMIT else None
        except (ValueError, RecursionError):
            connector = None
        if not isinstance(connector, dict):
            raise invalid_argument(f"connector_json must be a JSON object of at most {_CONNECTOR_LIMIT} bytes")
        self.register(
            request.node_id,
            connector=connector,
            public_key=request.public_key,
            topology=dict(request.topology),
            max_volumes=request.max_volumes,
        )
        return node_registry_pb2.RegisterNodeResponse()

    def GetConnection(
        self, request: node_registry_pb2.GetConnectionRequest, call: Any
    ) -> node_registry_pb2.GetConnectionResponse:
        return node_registry_pb2.GetConnectionResponse(
            sealed_connection=self.connection(request.node_id, request.volume_id)
        )

    def register(
        self,
        node_id: str,
        *,
        connector: Mapping[str, Any],
        public_key: bytes,
        topology: Mapping[str, str],
        max_volumes: int = 0,
    ) -> None:
        """Store or replace what the controller knows of a node.

        ``connector`` is os-brick's; ``public_key`` raw X25519; ``max_volumes`` 0 for no limit. Raises
        INVALID_ARGUMENT, FAILED_PRECONDITION when another live node has one of its initiator names, and ABORTED after
        lost races.
        """
        if not node_id or len(node_id.encode()) > request_rules.NODE_ID_LIMIT or not is_valid_id(node_id):
            raise invalid_argument(f"node_id must have 1 to {request_rules.NODE_ID_LIMIT} printable bytes")
        if len(public_key) != _KEY_BYTES:
            raise invalid_argument(f"public_key must be a raw X25519 key of {_KEY_BYTES} bytes, not {len(public_key)}")
        if max_volumes < 0:
            raise invalid_argument(f"max_volumes must not be negative, as {max_volumes} is")
        initiator_conflicts.check_new(self._context, node_id, connector)
        key = base64.b64encode(public_key).decode()
        for _ in range(_WRITE_ATTEMPTS):
            record = self._context.store.get(NodeRecord, node_id) or NodeRecord(id=node_id)
            record.connector, record.public_key, record.topology = dict(connector), key, dict(topology)
            record.max_volumes = max_volumes
            try:
                self._context.store.update(record) if record.revision else self._context.store.create(record)
            except (RecordExists, RecordNotFound, RevisionConflict):
                continue  # the node registers from two places at once: the last one counts
            return
        raise aborted(f"node_id: node {node_id} is being registered by others")

    def connection(self, node_id: str, volume_id: str) -> bytes:
        """Connection information of a published volume, sealed to the node's present key. Raises NOT_FOUND."""
        store = self._context.store
        node = lookups.get_node(store, node_id)
        volume = lookups.get_volume(store, volume_id)
        for record in lookups.connections_of(store, volume_id, node_id):
            if record.attach_status == "attached":
                return seal_connection(volume, record, node)
        raise not_found(f"volume_id: volume {volume_id} is not published to node {node_id}")

    def sealed_for_store(self, node_id: str, volume_id: str) -> str:
        """connection() in base64, for nodes that find it in the metadata; empty where that raises."""
        try:
            return base64.b64encode(self.connection(node_id, volume_id)).decode()
        except RpcError as error:
            LOG.warning("volume %s could not be sealed again for node %s: %s", volume_id, node_id, error.message)
            return ""
