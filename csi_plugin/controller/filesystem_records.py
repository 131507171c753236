"""That a volume has been given a filesystem is remembered with it until it is deleted: no node makes another one.

A node tells it before it mounts. Where nodes write their own record only, it is on the node's list first; what is there
counts while the volume is published to that node, and is taken over into the volume's record.
"""

import logging

from csi_plugin.controller import lookups
from csi_plugin.controller.attempts import resource_of
from csi_plugin.controller.context import ControllerContext
from csi_plugin.persistence.base import PersistenceError, RecordNotFound, RecordStore, RevisionConflict
from csi_plugin.persistence.records import (
    FORMATTED,
    FORMATTED_VOLUMES,
    NodeRecord,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol.errors import RpcError, not_found

LOG = logging.getLogger(__name__)

_YES = "true"


def had_filesystem(store: RecordStore, volume: VolumeRecord) -> bool:
    """Whether the volume was ever seen with a filesystem, as far as anybody has told."""
    if FORMATTED in volume.admin_metadata:
        return True
    for connection in lookups.connections_of(store, volume.id):
        node = store.get(NodeRecord, connection.node_id) if connection.node_id else None
        if node is not None and volume.id in listed(node):
            return True
    return False


def snapshot_metadata(store: RecordStore, volume: VolumeRecord) -> dict[str, str]:
    """What a snapshot that is taken now has to say of the filesystem that its copies have."""
    return {FORMATTED: _YES} if had_filesystem(store, volume) else {}


def copy_metadata(
    store: RecordStore, *, snapshot: SnapshotRecord | None = None, volume: VolumeRecord | None = None
) -> dict[str, str]:
    """admin_metadata of a new volume, by what it is a copy of."""
    has_one = (snapshot is not None and FORMATTED in snapshot.metadata) or (
        volume is not None and had_filesystem(store, volume)
    )
    return {FORMATTED: _YES} if has_one else {}


def record(context: ControllerContext, node_id: str, volume_id: str) -> None:
    """A node to which the volume is published says that it has a filesystem.

    Raises NOT_FOUND when it is not published there, and ABORTED while something else is done with the volume.
    """
    volume = lookups.get_volume(context.store, volume_id)
    if not lookups.connections_of(context.store, volume_id, node_id):
        raise not_found(f"volume_id: volume {volume_id} is not published to node {node_id}")
    if FORMATTED in volume.admin_metadata:
        return
    with context.wait_and_hold(resource_of(VolumeRecord, volume_id)):
        note(context.store, volume_id)


def note(store: RecordStore, volume_id: str) -> None:
    """Write it into the volume's record. Callers hold the volume's in-flight mark."""
    volume = store.get(VolumeRecord, volume_id)
    if volume is not None and FORMATTED not in volume.admin_metadata:
        volume.admin_metadata[FORMATTED] = _YES
        store.update(volume)


def take_over(context: ControllerContext, node_id: str) -> None:
    """Take a node's list into the records of the volumes, and clear it. Raises PersistenceError for what is to be tried
    again."""
    node = context.store.get(NodeRecord, node_id)
    done = []
    try:
        for volume_id in listed(node) if node is not None else []:
            if lookups.find_visible(context.store, VolumeRecord, volume_id) is not None:
                try:
                    record(context, node_id, volume_id)
                except RpcError as error:
                    if lookups.connections_of(context.store, volume_id, node_id):
                        raise PersistenceError(error.message) from error
                    LOG.warning("node %s speaks of volume %s, which is not published to it", node_id, volume_id)
            done.append(volume_id)
    finally:
        clear(context.store, node_id, done)


def clear(store: RecordStore, node_id: str, volume_ids: list[str]) -> None:
    """Take volumes off a node's list. What the node writes at the same time is left for the next time."""
    node = store.get(NodeRecord, node_id)
    if node is None or not set(listed(node)).intersection(volume_ids):
        return
    remaining = [volume_id for volume_id in listed(node) if volume_id not in volume_ids]
    others = {name: value for name, value in node.connector.items() if name != FORMATTED_VOLUMES}
    node.connector = others | ({FORMATTED_VOLUMES: remaining} if remaining else {})
    try:
        store.update(node)
    except (RecordNotFound, RevisionConflict) as error:
        LOG.debug("the list of node %s is not cleared yet: %s", node_id, error)


def listed(node: NodeRecord) -> list[str]:
    """Ids of volumes that the node has found or made a filesystem on, and that are not taken over yet."""
    found = node.connector.get(FORMATTED_VOLUMES)
    return [volume_id for volume_id in found if isinstance(volume_id, str)] if isinstance(found, list) else []
