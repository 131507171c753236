"""How many volumes a node takes: a limit that holds for publications under way too."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import ConnectionRecord, NodeRecord
from csi_plugin.protocol.errors import resource_exhausted


class NodeLimits:
    """Volumes that publications count for a node until their connection is stored. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved: defaultdict[str, set[str]] = defaultdict(set)

    @contextmanager
    def reserve(self, store: RecordStore, node: NodeRecord, volume_id: str) -> Iterator[None]:
        """Count a volume for the node. Raises RESOURCE_EXHAUSTED when the node is full (CSI: "Max volumes attached").

        A volume that is connected already, if only by an interrupted attempt, is counted already.
        """
        if not node.max_volumes:
            yield
            return
        with self._lock:
            connections = store.find(ConnectionRecord, node_id=node.id)
            taken = {connection.volume_id for connection in connections} | self._reserved[node.id]
            if volume_id not in taken and len(taken) >= node.max_volumes:
                raise resource_exhausted(f"node_id: node {node.id} has its maximum of {node.max_volumes} volumes")
            self._reserved[node.id].add(volume_id)
        try:
            yield
        finally:
            with self._lock:
                self._reserved[node.id].discard(volume_id)
