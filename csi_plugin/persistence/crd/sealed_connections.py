"""Connections resealed for nodes that have lost their key, or are others for the storage than they were; a node finds
its own in the status of its CinderNode."""

import json
import logging
from collections.abc import Callable
from typing import Any

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.resource import RecordResource
from csi_plugin.persistence.records import JSON, ConnectionRecord, NodeRecord
from csi_plugin.protocol.host_names import changed_properties

LOG = logging.getLogger(__name__)

MOST_BYTES = 1_000_000
"""Of all connections in one status: etcd takes 1.5 MiB for the whole resource."""

SealConnection = Callable[[str, str], str]
"""See RecordStore.use_connection_sealer."""


def resealed_connections(
    resource: RecordResource,
    find: Callable[..., list[Any]],
    seal: SealConnection,
    is_renewing: Callable[[str, str], bool],
) -> JSON:
    """Fields of a CinderNode's status: its key, and each connection whose publish_context is not sealed to that, or
    tells of an export that is no more. While one of them is exported anew there is no key, so that the node waits.

    What is there already and still right is kept: a box is never the same twice.
    """
    node = resource.record
    assert isinstance(node, NodeRecord)
    known = {_identity(entry): entry for entry in resource.status.get("connections", []) if "sealed" in entry}
    entries: list[JSON] = []
    size, any_renewing = 0, False
    refused: list[JSON] = []
    for connection in find(ConnectionRecord, node_id=node.id):
        if _may_be_outdated(connection, node) and is_renewing(node.id, connection.volume_id):
            any_renewing = True
        elif connection.attach_status == "attached" and (
            connection.is_renewed or connection.public_key != node.public_key
        ):
            entry: JSON = {
                "volumeId": connection.volume_id,
                "revision": connection.revision,
                "publicKey": node.public_key,
            }
            if _identity(entry) in known:
                entry = known[_identity(entry)]
            elif sealed := seal(node.id, connection.volume_id):
                entry["sealed"] = sealed
            if "sealed" in entry:
                size += len(json.dumps(entry))
                (entries if size <= MOST_BYTES else refused).append(entry)
    if refused:
        refusal = (
            f"the connections of node {node.id}, sealed to its new key, have {size:,} bytes, and {MOST_BYTES:,} fit "
            f"into its CinderNode (etcd's limit): those of {len(refused)} volumes are left out; detach volumes from it"
        )
        LOG.warning("%s", refusal)
        for entry in refused:
            entries.append({name: value for name, value in entry.items() if name != "sealed"} | {"refusal": refusal})
    return {"publicKey": "" if any_renewing else node.public_key, "connections": entries or None}


def _may_be_outdated(connection: ConnectionRecord, node: NodeRecord) -> bool:
    if connection.attach_status != "attached":
        return connection.is_renewed
    return bool(changed_properties(connection.connector or {}, node.connector))


def find_connection(status: JSON, volume_id: str, public_key: str) -> str | None:
    """A volume's connection for the node that has a key, in base64: empty when it has none that was resealed; None
    when the controller has not seen the key yet. Raises PersistenceError for one that does not fit."""
    for entry in status.get("connections", []):
        if (entry["volumeId"], entry["publicKey"]) == (volume_id, public_key):
            if refusal := entry.get("refusal"):
                raise PersistenceError(str(refusal))
            return str(entry["sealed"])
    return "" if status.get("publicKey") == public_key else None


def _identity(entry: JSON) -> tuple[str, int, str]:
    return entry["volumeId"], entry["revision"], entry["publicKey"]
