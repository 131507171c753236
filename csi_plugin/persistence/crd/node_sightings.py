"""When a node was heard of last, and since when it has its names, as the API server and this controller have seen it.

A node writes its CinderNode itself, so nothing in its spec tells. It is kept in the status, which nodes cannot write,
and so outlives the controller.
"""

from datetime import UTC, datetime

from csi_plugin.persistence.crd.resource import RecordResource
from csi_plugin.persistence.initiators import held_since, names, with_names_since
from csi_plugin.persistence.records import JSON, NodeRecord


def take_note(found: RecordResource, before: RecordResource | None) -> None:
    """Put into a CinderNode's record what was seen of it. ``before``: as it was known until now."""
    node = found.record
    assert isinstance(node, NodeRecord)
    first = dict.fromkeys(names(node.connector), node.created_at or datetime.now(UTC))
    if before is not None and before.uid == found.uid and isinstance(before.record, NodeRecord):
        known, seen, generation = held_since(before.record), before.record.updated_at, _generation(before)
    elif found.status.get("lastSeen"):
        known = {entry["name"]: datetime.fromisoformat(entry["since"]) for entry in found.status.get("names", [])}
        seen, generation = datetime.fromisoformat(found.status["lastSeen"]), found.status.get("seenGeneration", 0)
    else:
        known, seen, generation = first, None, 1
    if _generation(found) != generation:
        seen = datetime.now(UTC)
    node.updated_at = None if seen == node.created_at else seen
    node.connector = with_names_since(node, known)


def status_of(resource: RecordResource) -> JSON:
    """What is to be kept in the status."""
    node = resource.record
    assert isinstance(node, NodeRecord)
    seen = node.updated_at or node.created_at
    since = sorted(held_since(node).items())
    return {
        "lastSeen": seen.isoformat() if seen else "",
        "seenGeneration": _generation(resource),
        "names": [{"name": name, "since": at.isoformat()} for name, at in since] or None,
    }


def _generation(resource: RecordResource) -> int:
    """Counts the changes of the spec; the API server's."""
    return int(resource.metadata.get("generation", 1))
