"""The names by which arrays know nodes; two nodes with the same one would write to each other's volumes."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from csi_plugin.persistence.records import ConnectionRecord, NodeRecord

Find = Callable[..., list[Any]]
"""find(kind, *, limit=None, **keys), as RecordStore's."""

NODE_LIFETIME_SECONDS = 600.0
"""How long a node without volumes is taken to live after it registered last; nodes register every five minutes."""


def names(connector: Mapping[str, Any]) -> set[str]:
    """iSCSI and NVMe qualified names and Fibre Channel ports of os-brick's connector properties; lower case."""
    found: set[str] = set()
    for key in ("initiator", "nqn", "wwpns"):
        value = connector.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and name:
                found.add(name.lower())
    return found


def sharing(node_id: str, connector: Mapping[str, Any], find: Find) -> Iterator[tuple[NodeRecord, set[str]]]:
    """Other nodes that have initiator names of this one, live or not, each with those names."""
    mine = names(connector)
    for other in find(NodeRecord) if mine else ():
        shared = mine & names(other.connector)
        if other.id != node_id and shared:
            yield other, shared


def conflict(node: NodeRecord, find: Find, *, lifetime_seconds: float = NODE_LIFETIME_SECONDS) -> str:
    """Why a node cannot have volumes: a live one that registered earlier has one of its names. Empty when it can."""
    for other, shared in sharing(node.id, node.connector, find):
        if _seniority(other) < _seniority(node) and is_alive(other, find, lifetime_seconds=lifetime_seconds):
            return f"node {node.id} cannot have volumes: {advice(other, shared)}"
    return ""


def is_alive(node: NodeRecord, find: Find, *, lifetime_seconds: float) -> bool:
    """Whether a node has a volume, or has registered lately."""
    if find(ConnectionRecord, node_id=node.id, limit=1):
        return True
    seen = node.updated_at or node.created_at
    return seen is not None and datetime.now(UTC) - seen < timedelta(seconds=lifetime_seconds)


def advice(other: NodeRecord, shared: set[str]) -> str:
    return (
        f"node {other.id} has {', '.join(sorted(shared))} too. Machines with the same initiator name (cloned disks, "
        "often) corrupt each other's data: give this one its own"
    )


def _seniority(node: NodeRecord) -> tuple[datetime, str]:
    return node.created_at or datetime.now(UTC), node.id
