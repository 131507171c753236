"""Nodes that are known to the storage by another name, or at another address, than a volume was published to.

A machine that was installed anew, or has another card, cannot use the export of the one before it, which would keep its
access. A node tells which volumes it has in use, and those are left as they are.
"""

import logging

from csi_plugin.controller import initiator_conflicts, lookups, node_connectors, storage_objects
from csi_plugin.controller.attempts import resource_of
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.requests import access
from csi_plugin.persistence.records import JSON, PUBLIC_KEY, RENEWED, ConnectionRecord, NodeRecord, VolumeRecord
from csi_plugin.protocol.errors import failed_precondition, unavailable
from csi_plugin.protocol.host_names import changed_properties
from csi_plugin.protocol.node_identity import ATTACHED_VOLUMES

LOG = logging.getLogger(__name__)


def has_changed(connection: ConnectionRecord, node: NodeRecord) -> bool:
    """Whether a connection has to be exported anew before the node can use it.

    Raises FAILED_PRECONDITION where it has to, and the node may have the volume in use.
    """
    if not changed_properties(connection.connector or {}, node.connector):
        return False
    if connection.attach_status != "attached" or not _may_be_in_use(connection, node):
        return True
    counting = changed_properties(connection.connector or {}, node.connector, protocol=connection.protocol)
    if not counting:
        return False
    raise failed_precondition(
        f"node_id: node {node.id} has volume {connection.volume_id} in use, which was published to it when it had "
        f"another {_describe(connection, node, counting)}: let the node unstage the volume (delete its pods) "
        "and unpublish it, so that it is published to what the node is now"
    )


def end_export(
    context: ControllerContext, volume: VolumeRecord, connection: ConnectionRecord, node: NodeRecord
) -> None:
    """Take the access from what the node was; the volume is not published to it afterwards."""
    _warn(connection, node)
    with driver_errors(f"ending the export of volume {volume.id} to what node {node.id} was"):
        storage_objects.connection(context, connection, backend_name=volume.backend).disconnect()


def has_to_be_renewed(connection: ConnectionRecord, node: NodeRecord) -> bool:
    """Whether a node that asks for a connection needs another export, without the CO: it goes on with what it has been
    told of the volume. What the node may have in use stays, so that the node can detach it."""
    if connection.attach_status != "attached":
        return RENEWED in (connection.connector or {})
    changed = changed_properties(connection.connector or {}, node.connector, protocol=connection.protocol)
    return bool(changed) and not _may_be_in_use(connection, node)


def renew(context: ControllerContext, connection_id: str) -> ConnectionRecord | None:
    """Take the access from what a node was and give it to what the node is, where that is needed; the connection, if it
    is still there.

    Raises ABORTED while something else is done with the volume, and what publishing raises.
    """
    connection = context.store.get(ConnectionRecord, connection_id)
    if connection is None:
        return None
    with context.wait_and_hold(resource_of(VolumeRecord, connection.volume_id)):
        connection = context.store.get(ConnectionRecord, connection_id)
        if connection is None or not connection.node_id:
            return connection
        node = lookups.get_node(context.store, connection.node_id)
        volume = lookups.get_volume(context.store, connection.volume_id)
        if not has_to_be_renewed(connection, node):
            return connection
        if not context.store.is_current():
            raise unavailable("the metadata store was unreachable, and what it has now is not read yet; try again")
        initiator_conflicts.check_owner(context, node)
        _warn(connection, node)
        with driver_errors(f"exporting volume {volume.id} to what node {node.id} is now"):
            renewed = storage_objects.connection(context, connection, backend_name=volume.backend)
            renewed.move(_present_connector(context, connection, node))
        record: ConnectionRecord = renewed.record
        return record


def _present_connector(context: ControllerContext, connection: ConnectionRecord, node: NodeRecord) -> JSON:
    kept = {name: value for name, value in (connection.connector or {}).items() if name in ("mode", access.ACCESS_KEY)}
    present = node_connectors.for_drivers(context.store, node)
    return present | kept | {PUBLIC_KEY: node.public_key, RENEWED: True}


def _may_be_in_use(connection: ConnectionRecord, node: NodeRecord) -> bool:
    """As the node told with its present connector. One that does not tell has a key as long as it has its state."""
    attached = node.connector.get(ATTACHED_VOLUMES)
    if isinstance(attached, list):
        return connection.volume_id in attached
    return (connection.connector or {}).get(PUBLIC_KEY) == node.public_key


def _warn(connection: ConnectionRecord, node: NodeRecord) -> None:
    changed = changed_properties(connection.connector or {}, node.connector)
    LOG.warning(
        "volume %s is exported again to node %s, which had another %s",
        connection.volume_id,
        node.id,
        _describe(connection, node, changed),
    )


def _describe(connection: ConnectionRecord, node: NodeRecord, names: list[str]) -> str:
    recorded = connection.connector or {}
    return ", ".join(f"{name} ({recorded.get(name)}, now {node.connector.get(name)})" for name in names)
