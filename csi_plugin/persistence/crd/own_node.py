"""A node writes the CinderNode that says who it is: a short-lived process, so that the node stays small.

The node's record as JSON on standard input, with ``namespace`` and ``kubeconfig`` beside it; an error, if any, on
standard output.
"""

import json
import sys
from dataclasses import replace
from typing import Any

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
from csi_plugin.persistence.crd.api import Conflict, ResourceAPI
from csi_plugin.persistence.crd.kinds import GROUP, RESOURCES, VERSION, resource_name
from csi_plugin.persistence.crd.resource import new_resource, next_resource, stored
from csi_plugin.persistence.encoding import from_json, utc_now
from csi_plugin.persistence.records import NodeRecord

_TRIES = 5
_WRITE = "node"


def main() -> None:
    request: dict[str, Any] = json.load(sys.stdin)
    try:
        api = ResourceAPI(
            GROUP, VERSION, namespace=request.pop("namespace", None), kubeconfig=request.pop("kubeconfig", None)
        )
        write(api, from_json(NodeRecord, request))
    except (PersistenceError, InvalidPersistence) as error:
        print(error)  # noqa: T201 - the answer


def write(api: ResourceAPI, node: NodeRecord) -> None:
    """Create the node's resource, or replace what it says. Raises PersistenceError.

    Only this one resource is read and written: that is all that a node has the right to.
    """
    plural = RESOURCES[NodeRecord].plural
    for _ in range(_TRIES):
        resource = api.get(plural, resource_name(node.id))
        try:
            if resource is None:
                first = replace(node, revision=1, created_at=utc_now())
                api.create(plural, new_resource(first, namespace=api.namespace, write=_WRITE))
            else:
                present = stored(NodeRecord, resource)
                record = present.record
                following = replace(
                    node, revision=record.revision + 1, created_at=record.created_at, updated_at=utc_now()
                )
                api.replace(plural, next_resource(following, present, write=_WRITE))
        except Conflict:
            continue  # a status was written meanwhile
        return
    raise PersistenceError(f"CinderNode {node.id} is being written by others")


if __name__ == "__main__":
    main()
