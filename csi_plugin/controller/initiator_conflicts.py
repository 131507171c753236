"""Nodes with initiator names of others are refused."""

from collections.abc import Mapping
from typing import Any

from csi_plugin.controller.context import ControllerContext
from csi_plugin.persistence.initiators import advice, conflict, is_alive, sharing
from csi_plugin.persistence.records import NodeRecord
from csi_plugin.protocol.errors import failed_precondition


def check_new(context: ControllerContext, node_id: str, connector: Mapping[str, Any]) -> None:
    """Raise FAILED_PRECONDITION when a live node has one of the initiator names of a node that registers."""
    lifetime = context.configuration.node_lifetime_seconds
    for other, shared in sharing(node_id, connector, context.store.nodes_named):
        if is_alive(other, context.store.find, lifetime_seconds=lifetime):
            raise failed_precondition(f"connector_json: {advice(other, shared)}")


def check_owner(context: ControllerContext, node: NodeRecord) -> None:
    """Raise FAILED_PRECONDITION when a live node that registered earlier has one of this node's initiator names.

    Nodes that write their own record ask nobody, so publishing does.
    """
    store, lifetime = context.store, context.configuration.node_lifetime_seconds
    if reason := conflict(node, store.find, store.nodes_named, lifetime_seconds=lifetime):
        raise failed_precondition(f"node_id: {reason}")
