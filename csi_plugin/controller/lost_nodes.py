"""Volumes that are taken from a node without its doing, as from one that is out of service.

Most storage refuses what such a node still writes once the connection has ended. A share does not know which client
writes to a file, so nodes tell which volumes of that kind they have staged, and a node that is heard of keeps them.
"""

import logging
from datetime import UTC, datetime

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import ConnectionRecord, NodeRecord
from csi_plugin.persistence.sealing import Sealer
from csi_plugin.protocol.errors import failed_precondition
from csi_plugin.protocol.node_identity import STAGED_VOLUMES

LOG = logging.getLogger(__name__)

_UNFENCED = frozenset({"nfs", "smbfs", "glusterfs", "gpfs", "quobyte", "scality", "vzstorage"})
"""Protocols of files on shares. (The embedded driver's "local" is of one host.)"""

SILENCE_SECONDS = 300
"""Nodes with such volumes register every two minutes."""

RELEASED = "csi_released"
"""Entry of a connection's connector: a person has seen to it that the node does not write."""


def is_unfenced(connection: ConnectionRecord) -> bool:
    """Whether the end of a connection does not keep its node from writing to the volume. One that no sealing key opens
    may be such a one."""
    return Sealer.is_sealed(connection.connection_info) or connection.protocol in _UNFENCED


def check_unstaged(store: RecordStore, connection: ConnectionRecord) -> None:
    """Raise FAILED_PRECONDITION while a node that is alive has a volume staged that nothing else keeps it from."""
    volume_id, node_id = connection.volume_id, connection.node_id
    node = store.get(NodeRecord, node_id) if node_id else None
    if node is None or volume_id not in _staged(node) or RELEASED in (connection.connector or {}):
        return
    silence = _silent_seconds(node)
    if silence > SILENCE_SECONDS:
        LOG.warning("volume %s is taken from node %s, which was last heard of %.0f s ago", volume_id, node_id, silence)
        return
    raise failed_precondition(
        f"node_id: node {node_id} is alive and has volume {volume_id} staged, and its storage cannot keep a node from "
        f"writing: let the node unstage it, or shut the node down (it counts as gone {SILENCE_SECONDS} s after it was "
        f"last heard of); `cinderbox volumes release {volume_id} {node_id}` takes the volume from it all the same"
    )


def release(store: RecordStore, volume_id: str, node_id: str) -> bool:
    """Let a volume be taken from a node whatever that says. False where it is not published there."""
    for connection in store.find(ConnectionRecord, volume_id=volume_id, node_id=node_id):
        connection.connector = (connection.connector or {}) | {RELEASED: True}
        store.update(connection)
        return True
    return False


def _staged(node: NodeRecord) -> list[str]:
    found = node.connector.get(STAGED_VOLUMES)
    return found if isinstance(found, list) else []


def _silent_seconds(node: NodeRecord) -> float:
    heard = node.updated_at or node.created_at
    return (datetime.now(UTC) - heard).total_seconds() if heard else float("inf")
