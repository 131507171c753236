"""The Nodes of Kubernetes beside our CinderNodes: which of them are there and ready, and which have gone for good."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.initiators import NODE_LIFETIME_SECONDS, Find
from csi_plugin.persistence.records import FORMATTED_VOLUMES, JSON, ConnectionRecord, NodeRecord

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Obstacle:
    """Why a node cannot be counted on."""

    reason: str
    """CamelCase, for machines."""
    message: str


class ClusterNodes:
    """What the last list of Nodes says. One thread calls look(), others ask."""

    def __init__(
        self,
        api: ResourceAPI,
        find: Find,
        *,
        changed: Callable[[str], None],
        remove: Callable[[NodeRecord], None],
    ) -> None:
        """``changed(node id)`` is called when what obstacle() says of a node may be new, ``remove(record)`` for one
        that is of no use any more; it may raise PersistenceError."""
        self._api = api
        self._find = find
        self._changed = changed
        self._remove = remove
        self._unready: dict[str, str] | None = None
        """Nodes of the last list by name, with why each is not ready; empty for those that are. None: never listed."""
        self._seen: set[str] = set()
        """Names of Nodes that were there since this process began."""
        self._absent: set[str] = set()
        """Those whose Node was not there when they were looked at last: one that is recreated has a moment for it."""
        self._told: dict[str, str] = {}
        self._pod_networks: list[str] = []

    def pod_networks(self) -> list[str]:
        """Of all Nodes of the last list."""
        return self._pod_networks

    def obstacle(self, record: NodeRecord) -> Obstacle | None:
        """Why a node cannot be counted on, as far as is known."""
        if self._unready is None:
            return None
        heard = record.updated_at or record.created_at
        since = f"it was last heard of at {heard:%Y-%m-%dT%H:%M:%SZ}" if heard else "it was never heard of"
        if record.id not in self._unready:
            if not self._is_gone(record):
                return None  # it is outside of the cluster, or its Node is still to come
            attached = len(self._find(ConnectionRecord, node_id=record.id))
            held = f"; {attached} volumes are still attached to it" if attached else ""
            return Obstacle("NodeGone", f"there is no Node {record.id} any more; {since}{held}")
        if unready := self._unready[record.id]:
            return Obstacle("NodeNotReady", f"its Node is not ready ({unready})")
        if _is_silent(heard):
            return Obstacle("NotHeardOf", f"its Node is ready, but {since}: does the driver's pod run there?")
        return None

    def look(self) -> None:
        """List the Nodes, remove what is of no use any more, and tell what is new. Raises PersistenceError."""
        unready: dict[str, str] = {}
        networks: list[str] = []
        for node in self._api.list_in_cluster("", "v1", "nodes"):
            unready[str(node["metadata"]["name"])] = _why_not_ready(node)
            networks += node.get("spec", {}).get("podCIDRs") or []
        self._unready, self._pod_networks = unready, networks
        self._seen |= self._unready.keys()
        told: dict[str, str] = {}
        absent: set[str] = set()
        for record in self._find(NodeRecord):
            obstacle = self.obstacle(record)
            told[record.id] = obstacle.message if obstacle else ""
            if obstacle is not None and obstacle.reason == "NodeGone":
                absent.add(record.id)
            if record.id in absent & self._absent and self._is_unused(record):
                LOG.info("node %s is forgotten: there is no Node of that name any more", record.id)
                self._remove(record)
            elif told[record.id] != self._told.get(record.id, ""):
                self._changed(record.id)
        self._told, self._absent = told, absent

    def _is_gone(self, record: NodeRecord) -> bool:
        """Whether the Node was there and is not, as seen or as its silence tells: records of hosts that are no Nodes
        stay while they are heard of."""
        return record.id in self._seen or _is_silent(record.updated_at or record.created_at)

    def _is_unused(self, record: NodeRecord) -> bool:
        """What it says of filesystems is to be taken over first."""
        return FORMATTED_VOLUMES not in record.connector and not self._find(ConnectionRecord, node_id=record.id)


def _is_silent(heard: datetime | None) -> bool:
    return heard is None or utc_now() - heard > timedelta(seconds=NODE_LIFETIME_SECONDS)


def _why_not_ready(node: JSON) -> str:
    conditions: list[Any] = (node.get("status") or {}).get("conditions") or []
    for condition in conditions:
        if condition["type"] == "Ready":
            return "" if condition["status"] == "True" else str(condition.get("reason") or condition["status"])
    return "no condition Ready"
