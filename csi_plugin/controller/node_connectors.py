"""Nodes' connector properties as drivers get them: what os-brick tells of a host, under the name that is the node's.

A node may say of itself what it likes. Arrays put initiators together by the name of the host, so that name is never
its own choice.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import JSON, ConnectionRecord, NodeRecord
from csi_plugin.protocol.errors import failed_precondition

_TEXT = re.compile(r"[\x21-\x7e]{1,256}")
_FROM_FIRMWARE = {"uuid", "system uuid", "found_dsc"}
"""Where a host has none, firmware and its tools say so in words ("Not Settable"): these are left out."""
_SHORT_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,29}[A-Za-z0-9])?")
"""One that drivers hand to their arrays whole. Some end it at the first dot (3PAR, PowerMax), or after 31 characters
(3PAR, Seagate; DS8000 after 32): two nodes would be one host there, and each get the other's volumes."""
_MOST_ENTRIES = 256


def validate(connector: Mapping[str, Any]) -> JSON:
    """The properties that os-brick tells of a host, without others. Raises ValueError for one that is none."""
    found: JSON = {}
    for key, (is_valid, allowed) in _PROPERTIES.items():
        value = connector.get(key)
        if value is None or value == "":
            continue
        if is_valid(value):
            found[key] = value
        elif key not in _FROM_FIRMWARE:
            raise ValueError(f"{key} must be {allowed}")
    return found


def for_drivers(store: RecordStore, node: NodeRecord) -> JSON:
    """The properties that a volume is exported to. Raises FAILED_PRECONDITION for a node whose own are none."""
    try:
        properties = validate(node.connector)
    except ValueError as error:
        raise failed_precondition(f"node_id: node {node.id} has registered a connector whose {error}") from None
    return properties | {"host": _host_name(store, node)}


def host_name(node_id: str) -> str:
    """What arrays call a node: its id, or a shorter name of which no driver cuts off what makes it the node's."""
    if _SHORT_HOST_NAME.fullmatch(node_id):
        return node_id
    beginning = re.sub(r"[^A-Za-z0-9-]", "", node_id.partition(".")[0])[:14].strip("-") or "node"
    return f"{beginning}-{hashlib.sha256(node_id.encode()).hexdigest()[:16]}"


def _host_name(store: RecordStore, node: NodeRecord) -> str:
    """The node's, or the one under which it has volumes from before, which an array would not give to two hosts."""
    own = host_name(node.id)
    connections = store.find(ConnectionRecord, node_id=node.id)
    used = {str(host) for found in connections if (host := (found.connector or {}).get("host"))} - {own}
    if not used:
        return own
    ids = [other.id for other in store.find(NodeRecord) if other.id != node.id]
    others = {*ids, *map(host_name, ids)}
    for found in store.find(ConnectionRecord):
        if found.node_id != node.id:
            others.add(str((found.connector or {}).get("host")))
    return min(used - others, default=own)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None


def _is_texts(value: Any) -> bool:
    entries = value if isinstance(value, list) else [value]
    return len(entries) <= _MOST_ENTRIES and all(map(_is_text, entries))


def _is_address(value: Any) -> bool:
    """A name would be whatever a resolver makes of it, which could be another node's address."""
    try:
        return _is_text(value) and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_Property = tuple[Callable[[Any], bool], str]
_A_TEXT: _Property = (_is_text, "a text of 1 to 256 printable characters without spaces")
_A_LIST: _Property = (_is_texts, f"a list of at most {_MOST_ENTRIES}, each {_A_TEXT[1]}")
_A_FLAG: _Property = (_is_flag, "true or false")
_PROPERTIES: dict[str, _Property] = {
    "platform": _A_TEXT,
    "os_type": _A_TEXT,
    "ip": (_is_address, "an IPv4 or IPv6 address"),
    "host": _A_TEXT,
    "multipath": _A_FLAG,
    "enforce_multipath": _A_FLAG,
    "do_local_attach": _A_FLAG,
    "initiator": _A_TEXT,
    "wwpns": _A_LIST,
    "wwnns": _A_LIST,
    "nqn": _A_TEXT,
    "nvme_hostid": _A_TEXT,
    "nvme_native_multipath": _A_FLAG,
    "uuid": _A_TEXT,
    "system uuid": _A_TEXT,
    "found_dsc": _A_TEXT,
    "host_ips": _A_LIST,
    "sdc_guid": _A_TEXT,
}
"""What os-brick's connectors tell (get_connector_properties), all that Cinder's drivers read of it among them."""
