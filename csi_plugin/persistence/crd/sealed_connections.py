"""Connections resealed for nodes that have lost their key; a node finds its own in the status of its CinderNode."""

from collections.abc import Callable
from typing import Any

from csi_plugin.persistence.crd.resource import RecordResource
from csi_plugin.persistence.records import JSON, ConnectionRecord, NodeRecord

SealConnection = Callable[[str, str], str]
"""See RecordStore.use_connection_sealer."""


def resealed_connections(resource: RecordResource, find: Callable[..., list[Any]], seal: SealConnection) -> JSON:
    """Fields of a CinderNode's status: its key, and each connection whose publish_context is not sealed to that.

    What is there already and still right is kept: a box is never the same twice.
    """
    node = resource.record
    assert isinstance(node, NodeRecord)
    known = {_identity(entry): entry for entry in resource.status.get("connections", [])}
    entries = []
    for connection in find(ConnectionRecord, node_id=node.id):
        if connection.attach_status == "attached" and connection.public_key != node.public_key:
            entry = {
                "volumeId": connection.volume_id,
                "revision": connection.revision,
                "publicKey": node.public_key,
            }
            if _identity(entry) in known:
                entries.append(known[_identity(entry)])
            elif sealed := seal(node.id, connection.volume_id):
                entries.append(entry | {"sealed": sealed})
    return {"publicKey": node.public_key, "connections": entries or None}


def find_connection(status: JSON, volume_id: str, public_key: str) -> str | None:
    """A volume's connection for the node that has a key, in base64: empty when it has none that was resealed; None
    when the controller has not seen the key yet."""
    for entry in status.get("connections", []):
        if (entry["volumeId"], entry["publicKey"]) == (volume_id, public_key):
            return str(entry["sealed"])
    return "" if status.get("publicKey") == public_key else None


def _identity(entry: JSON) -> tuple[str, int, str]:
    return entry["volumeId"], entry["revision"], entry["publicKey"]
