"""The names by which arrays know nodes; two nodes with the same one would write to each other's volumes.

Which of two nodes has a name by right, and whether it lives, is told by what the API server or this controller has
seen, never by what a node says of time.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from csi_plugin.persistence.records import JSON, NAMES_SINCE, ConnectionRecord, NodeRecord

Find = Callable[..., list[Any]]
"""find(kind, *, limit=None, **keys), as RecordStore's."""
NodesNamed = Callable[[Collection[str]], list[NodeRecord]]
"""As RecordStore.nodes_named()."""

NODE_LIFETIME_SECONDS = 600.0
"""How long a node without volumes is taken to live after it registered last; nodes register every five minutes."""

_KEYS = ("initiator", "nqn", "wwpns", "sdc_guid")
_NAME_LIMIT = 256
_NAMES_LIMIT = 256
"""Of a node, those that it had before included."""


def names(connector: Mapping[str, Any]) -> set[str]:
    """iSCSI and NVMe qualified names, Fibre Channel ports, the GUID of PowerFlex's client and the address of os-brick's
    connector properties; lower case."""
    found: set[str] = set()
    for key in _KEYS:
        value = connector.get(key)
        for name in value[:_NAMES_LIMIT] if isinstance(value, list) else [value]:
            if isinstance(name, str) and 0 < len(name) <= _NAME_LIMIT:
                found.add(name.lower())
    return found | _addresses(connector.get("ip"))


def held_since(node: NodeRecord) -> dict[str, datetime]:
    """Since when a node has had each of its names, and those that it had before."""
    first = node.created_at or datetime.now(UTC)
    since = dict.fromkeys(names(node.connector), first)
    noted = node.connector.get(NAMES_SINCE)
    if isinstance(noted, dict):
        since |= {name: datetime.fromisoformat(at) for name, at in noted.items()}
    return since


def with_names_since(node: NodeRecord, known: Mapping[str, datetime]) -> JSON:
    """The node's connector with a note of the names that it has not had from the beginning. ``known``: as held_since
    told before; a name that is not there came now."""
    mine, now = names(node.connector), datetime.now(UTC)
    since = {name: known.get(name, now) for name in mine}
    others = [name for name in known if name not in mine][: max(0, _NAMES_LIMIT - len(mine))]
    noted = {name: at for name, at in since.items() if at != node.created_at} | {name: known[name] for name in others}
    plain = {key: value for key, value in node.connector.items() if key != NAMES_SINCE}
    return plain | ({NAMES_SINCE: {name: at.isoformat() for name, at in sorted(noted.items())}} if noted else {})


def sharing(
    node_id: str, connector: Mapping[str, Any], nodes_named: NodesNamed
) -> Iterator[tuple[NodeRecord, set[str]]]:
    """Other nodes that have names of this one, live or not, each with those names."""
    mine = names(connector)
    for other in nodes_named(mine) if mine else ():
        shared = mine & names(other.connector)
        if other.id != node_id and shared:
            yield other, shared


def conflict(
    node: NodeRecord, find: Find, nodes_named: NodesNamed, *, lifetime_seconds: float = NODE_LIFETIME_SECONDS
) -> str:
    """Why a node cannot have volumes: a live one has had one of its names for longer. Empty when it can."""
    mine = held_since(node)
    for other, shared in sharing(node.id, node.connector, nodes_named):
        theirs = held_since(other)
        is_junior = any((theirs[name], other.id) < (mine[name], node.id) for name in shared)
        if is_junior and is_alive(other, find, lifetime_seconds=lifetime_seconds):
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
        f"node {other.id} has {', '.join(sorted(shared))} too. Machines with the same initiator name or SDC GUID "
        "(cloned disks, often) or address corrupt each other's data: give this one its own"
    )


def _addresses(value: Any) -> set[str]:
    """An address that others can reach a node by, in one form."""
    try:
        address = ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return set()
    # IPv4 in IPv6's clothes is what it is.
    address = getattr(address, "ipv4_mapped", None) or address
    return set() if address.is_loopback or address.is_link_local or address.is_unspecified else {str(address)}
