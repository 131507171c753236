"""A node and its CinderNode, in a short-lived process, so that the node stays small.

On standard input, as JSON: ``namespace`` and ``kubeconfig``, and one of ``register``, the node's record, ``formatted``,
a volume that has a filesystem, ``find``, one whose connection is wanted, both with ``node_id`` and ``volume_id``, and
``published``, with ``node_id``. On standard output, as JSON: ``error``, if any; ``sealed``, the connection that was to
be found, in base64: empty when there is none; ``published``, the volumes that the controller has published to the node.
"""

import json
import sys
import time
from dataclasses import replace
from typing import Any

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
from csi_plugin.persistence.crd.api import Conflict, ResourceAPI
from csi_plugin.persistence.crd.kinds import GROUP, RESOURCES, VERSION, resource_name
from csi_plugin.persistence.crd.resource import RecordResource, new_resource, next_resource, parse_resource
from csi_plugin.persistence.crd.sealed_connections import find_connection
from csi_plugin.persistence.encoding import from_json, utc_now
from csi_plugin.persistence.records import FORMATTED_VOLUMES, JSON, NodeRecord

_PLURAL = RESOURCES[NodeRecord].plural
_ATTEMPTS = 5
_WRITE = "node"
_WAIT_SECONDS = 20.0
"""How long the controller is given to seal a connection to a key that it has just learned of."""
_LOOK_SECONDS = 0.5


def main() -> None:
    request: dict[str, Any] = json.load(sys.stdin)
    answer: JSON = {}
    try:
        api = ResourceAPI(GROUP, VERSION, namespace=request["namespace"], kubeconfig=request["kubeconfig"])
        if "register" in request:
            register(api, from_json(NodeRecord, request["register"]))
        elif "published" in request:
            answer["published"] = published(api, **request["published"])
        elif "formatted" in request:
            record_filesystem(api, **request["formatted"])
        else:
            answer["sealed"] = connection(api, **request["find"])
    except (PersistenceError, InvalidPersistence, ValueError) as error:
        answer["error"] = str(error)
    json.dump(answer, sys.stdout)


def register(api: ResourceAPI, node: NodeRecord) -> None:
    """Create the node's resource, or replace what it says. Raises PersistenceError.

    Only this one resource is read and written: that is all that a node has the right to.
    """
    for _ in range(_ATTEMPTS):
        resource = api.get(_PLURAL, resource_name(node.id))
        try:
            if resource is None:
                first = replace(node, revision=1, created_at=utc_now())
                api.create(_PLURAL, new_resource(first, namespace=api.namespace, write=_WRITE))
            else:
                present = parse_resource(NodeRecord, resource)
                before: Any = present.record
                listed = before.connector.get(FORMATTED_VOLUMES)
                kept = {FORMATTED_VOLUMES: listed} if listed else {}
                _replace(api, replace(node, connector=node.connector | kept), present)
        except Conflict:
            continue  # a status was written meanwhile
        return
    raise PersistenceError(f"CinderNode {node.id}: conflicting concurrent update")


def record_filesystem(api: ResourceAPI, *, node_id: str, volume_id: str) -> None:
    """Put a volume on the node's list of those that have a filesystem, which the controller takes over and clears.

    Raises PersistenceError.
    """
    for _ in range(_ATTEMPTS):
        resource = api.get(_PLURAL, resource_name(node_id))
        if resource is None:
            raise PersistenceError(f"there is no CinderNode {node_id} yet")
        present = parse_resource(NodeRecord, resource)
        node: Any = present.record
        listed = node.connector.get(FORMATTED_VOLUMES) or []
        if volume_id in listed:
            return
        try:
            _replace(api, replace(node, connector=node.connector | {FORMATTED_VOLUMES: [*listed, volume_id]}), present)
        except Conflict:
            continue
        return
    raise PersistenceError(f"CinderNode {node_id}: conflicting concurrent update")


def published(api: ResourceAPI, *, node_id: str) -> list[str] | None:
    """The volumes that the controller tells that are published to a node; None where it tells none. Raises
    PersistenceError."""
    resource = api.get(_PLURAL, resource_name(node_id)) or {}
    found: list[str] | None = (resource.get("status") or {}).get("published")
    return found


def _replace(api: ResourceAPI, node: NodeRecord, present: RecordResource) -> None:
    record = present.record
    following = replace(node, revision=record.revision + 1, created_at=record.created_at, updated_at=utc_now())
    api.replace(_PLURAL, next_resource(following, present, write=_WRITE))


def connection(api: ResourceAPI, *, node_id: str, volume_id: str) -> str:
    """A volume's connection sealed to the key that the node has registered, in base64; empty when it has none.

    The controller is given time to see what the node has registered last. Raises PersistenceError when it does not see
    the key.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        resource = api.get(_PLURAL, resource_name(node_id)) or {"spec": {}, "metadata": {}}
        status = resource.get("status") or {}
        found: str | None = None
        is_over = time.monotonic() > deadline
        # What is there may be for what the node was before.
        if is_over or status.get("seenGeneration", 0) >= resource["metadata"].get("generation", 0):
            found = find_connection(status, volume_id, resource["spec"].get("publicKey", ""))
        if found or is_over:
            break
        time.sleep(_LOOK_SECONDS)
    if found is None:
        raise PersistenceError(f"the controller has not sealed volume {volume_id} to the new key of node {node_id} yet")
    return found


if __name__ == "__main__":
    main()
