"""The registry of nodes: who they are on the storage network, and the key that their connections are sealed to."""

import base64
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from csi_plugin.controller import (
    capabilities,
    changed_connectors,
    filesystem_records,
    initiator_conflicts,
    lookups,
    node_connectors,
)
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.controller.sealed_connections import seal_connection
from csi_plugin.persistence.base import RecordExists, RecordNotFound, RevisionConflict
from csi_plugin.persistence.initiators import held_since, with_names_since
from csi_plugin.persistence.records import FORMATTED_VOLUMES, JSON, ConnectionRecord, NodeRecord
from csi_plugin.protocol import caller, node_identity, node_registry_pb2, node_registry_pb2_grpc, request_rules
from csi_plugin.protocol.errors import RpcError, aborted, invalid_argument, not_found
from csi_plugin.protocol.node_identity import ATTACHED_VOLUMES, NODE_ID_BYTES, STAGED_VOLUMES, NodeIdentity
from csi_plugin.protocol.offers import PLUGIN

LOG = logging.getLogger(__name__)

_KEY_BYTES = 32
_WRITE_ATTEMPTS = 5


class NodeRegistryService(node_registry_pb2_grpc.NodeRegistryServicer):
    """Serves ``cinderbox.v1.NodeRegistry``; in mode ``all`` the server calls register(),
    connection() and record_filesystem() directly."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    def RegisterNode(
        self, request: node_registry_pb2.RegisterNodeRequest, call: Any
    ) -> node_registry_pb2.RegisterNodeResponse:
        caller.check_node(call, request.node_id)
        self.register(node_identity.from_request(request))
        offers = sorted(capabilities.plugin_offers(self._context) | {PLUGIN})
        return node_registry_pb2.RegisterNodeResponse(offers=offers)

    def GetConnection(
        self, request: node_registry_pb2.GetConnectionRequest, call: Any
    ) -> node_registry_pb2.GetConnectionResponse:
        caller.check_node(call, request.node_id)
        return node_registry_pb2.GetConnectionResponse(
            sealed_connection=self.connection(request.node_id, request.volume_id)
        )

    def RecordFilesystem(
        self, request: node_registry_pb2.RecordFilesystemRequest, call: Any
    ) -> node_registry_pb2.RecordFilesystemResponse:
        caller.check_node(call, request.node_id)
        self.record_filesystem(request.node_id, request.volume_id)
        return node_registry_pb2.RecordFilesystemResponse()

    def register(self, identity: NodeIdentity) -> None:
        """Store or replace what the controller knows of a node.

        Raises INVALID_ARGUMENT, FAILED_PRECONDITION when another live node has one of its initiator names, and ABORTED
        after lost races.
        """
        node_id = identity.node_id
        _check(identity)
        connector = _validate_connector(identity.connector)
        initiator_conflicts.check_new(self._context, node_id, identity.connector)
        key = base64.b64encode(identity.public_key).decode()
        for _ in range(_WRITE_ATTEMPTS):
            record = self._context.store.get(NodeRecord, node_id) or NodeRecord(id=node_id)
            kept = {FORMATTED_VOLUMES: listed} if (listed := filesystem_records.listed(record)) else {}
            record.created_at = record.created_at or datetime.now(UTC)
            known = held_since(record if record.revision else replace(record, connector=connector))
            record.connector, record.public_key = connector | kept, key
            record.connector = with_names_since(record, known)
            record.topology, record.max_volumes = dict(identity.topology), identity.max_volumes
            try:
                self._context.store.update(record) if record.revision else self._context.store.create(record)
            except (RecordExists, RecordNotFound, RevisionConflict):
                continue  # the node registers from two places at once: the last one counts
            return
        raise aborted(f"node_id: node {node_id} is being registered by others")

    def connection(self, node_id: str, volume_id: str) -> bytes:
        """Connection information of a published volume, sealed to the node's present key.

        A volume that was exported to what the node was before is exported to what it is now. Raises NOT_FOUND, and then
        what publishing raises.
        """
        store = self._context.store
        node = lookups.get_node(store, node_id)
        volume = lookups.get_volume(store, volume_id)
        for found in lookups.connections_of(store, volume_id, node_id):
            has_to_be_renewed = changed_connectors.has_to_be_renewed(found, node)
            record = changed_connectors.renew(self._context, found.id) if has_to_be_renewed else found
            if record is not None and record.attach_status == "attached":
                had_filesystem = filesystem_records.had_filesystem(store, volume)
                return seal_connection(self._context, volume, record, node, had_filesystem=had_filesystem)
        raise not_found(f"volume_id: volume {volume_id} is not published to node {node_id}")

    def record_filesystem(self, node_id: str, volume_id: str) -> None:
        """Remember with a published volume that it has a filesystem. Raises NOT_FOUND, and ABORTED while something
        else is done with the volume."""
        lookups.get_node(self._context.store, node_id)
        filesystem_records.record(self._context, node_id, volume_id)

    def take_over_filesystems(self, node_id: str) -> None:
        """Remember what a node has written into its own record. Raises PersistenceError for what is to be repeated."""
        filesystem_records.take_over(self._context, node_id)

    def is_renewing(self, node_id: str, volume_id: str) -> bool:
        """Whether a volume has to be exported anew before its node can use it: then recovery does that."""
        node = self._context.store.get(NodeRecord, node_id)
        for record in lookups.connections_of(self._context.store, volume_id, node_id):
            if node is not None and changed_connectors.has_to_be_renewed(record, node):
                self._context.recovery_queue.add(ConnectionRecord, record.id)
                return True
        return False

    def sealed_for_store(self, node_id: str, volume_id: str) -> str:
        """connection() in base64, for nodes that find it in the metadata; empty where that raises."""
        try:
            return base64.b64encode(self.connection(node_id, volume_id)).decode()
        except RpcError as error:
            LOG.warning("volume %s could not be sealed again for node %s: %s", volume_id, node_id, error.message)
            return ""


def _validate_connector(connector: Mapping[str, Any]) -> JSON:
    """os-brick's properties and the lists of volumes, without what is unknown. Raises INVALID_ARGUMENT."""
    try:
        properties = node_connectors.validate(connector)
    except ValueError as error:
        raise invalid_argument(f"connector_json: {error}") from None
    lists = {name: connector.get(name) for name in (STAGED_VOLUMES, ATTACHED_VOLUMES)}
    return properties | {
        name: list(filter(_is_id, listed)) for name, listed in lists.items() if isinstance(listed, list)
    }


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and is_valid_id(value)


def _check(identity: NodeIdentity) -> None:
    node_id, key_bytes = identity.node_id, len(identity.public_key)
    if not node_id or len(node_id.encode()) > NODE_ID_BYTES or not is_valid_id(node_id):
        raise invalid_argument(f"node_id must have 1 to {NODE_ID_BYTES} printable bytes")
    if key_bytes != _KEY_BYTES:
        raise invalid_argument(f"public_key must be a raw X25519 key of {_KEY_BYTES} bytes, not {key_bytes}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in identity.topology.items())
    if size > request_rules.MAP_LIMIT:
        raise invalid_argument(f"topology must have at most {request_rules.MAP_LIMIT} bytes, not {size}")
    if identity.max_volumes < 0:
        raise invalid_argument(f"max_volumes must not be negative, as {identity.max_volumes} is")
