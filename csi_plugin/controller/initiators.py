"""The names by which arrays know nodes; two nodes with the same one would write to each other's volumes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from csi_plugin.controller.core import Core
from csi_plugin.persistence.records import ConnectionRecord, NodeRecord
from csi_plugin.protocol.errors import failed_precondition


def names(connector: Mapping[str, Any]) -> set[str]:
    """iSCSI and NVMe qualified names and Fibre Channel ports of os-brick's connector properties; lower case."""
    found: set[str] = set()
    for key in ("initiator", "nqn", "wwpns"):
        value = connector.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and name:
                found.add(name.lower())
    return found


def check_new(core: Core, node_id: str, connector: Mapping[str, Any]) -> None:
    """Raise FAILED_PRECONDITION when a live node has one of the initiator names of a node that registers."""
    for other, shared in _sharing(core, node_id, connector):
        if _is_alive(core, other):
            raise failed_precondition(f"connector_json: {_advice(other, shared)}")


def check_owner(core: Core, node: NodeRecord) -> None:
    """Raise FAILED_PRECONDITION when a live node that registered earlier has one of this node's initiator names.

    Nodes that write their own record ask nobody, so publishing does.
    """
    for other, shared in _sharing(core, node.id, node.connector):
        if _seniority(other) < _seniority(node) and _is_alive(core, other):
            raise failed_precondition(f"node_id: node {node.id} cannot have volumes: {_advice(other, shared)}")


def _sharing(core: Core, node_id: str, connector: Mapping[str, Any]) -> Iterator[tuple[NodeRecord, set[str]]]:
    mine = names(connector)
    for other in core.store.find(NodeRecord) if mine else ():
        shared = mine & names(other.connector)
        if other.id != node_id and shared:
            yield other, shared


def _seniority(node: NodeRecord) -> tuple[datetime, str]:
    return node.created_at or datetime.now(UTC), node.id


def _advice(other: NodeRecord, shared: set[str]) -> str:
    return (
        f"node {other.id} has {', '.join(sorted(shared))} too. Machines with the same initiator name (cloned disks, "
        "often) corrupt each other's data: give this one its own"
    )


def _is_alive(core: Core, node: NodeRecord) -> bool:
    if core.store.find(ConnectionRecord, node_id=node.id, limit=1):
        return True
    seen = node.updated_at or node.created_at
    lifetime = timedelta(seconds=core.configuration.node_lifetime_seconds)
    return seen is not None and datetime.now(UTC) - seen < lifetime
