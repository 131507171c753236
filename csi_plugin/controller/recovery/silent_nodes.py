"""Nodes that nobody has heard of for long are forgotten: where machines come and go, the list would only grow.

Where nodes have a Node of Kubernetes, that tells more; see ClusterNodes of the crd plugin.
"""

import logging
from datetime import UTC, datetime, timedelta

from csi_plugin.controller.context import ControllerContext
from csi_plugin.persistence.records import FORMATTED_VOLUMES, ConnectionRecord

LOG = logging.getLogger(__name__)


def forget_silent_nodes(context: ControllerContext) -> None:
    """Delete the records of nodes that are silent and have no volume. One that comes back registers again."""
    store, limit = context.store, context.configuration.node_expiry_seconds
    if not limit or not store.is_current():
        return
    for node in store.nodes_silent_since(datetime.now(UTC) - timedelta(seconds=limit)):
        heard = node.updated_at or node.created_at
        if FORMATTED_VOLUMES in node.connector or store.find(ConnectionRecord, node_id=node.id, limit=1):
            continue
        LOG.info("node %s is forgotten: it was last heard of at %s, and no volume is published to it", node.id, heard)
        store.delete(node)
