"""What drivers return for several resources at once: a list of updates, each with the id of its resource."""

from collections.abc import Iterable, Mapping
from typing import Any


def apply_updates(resources: Iterable[Any], updates: Iterable[Mapping[str, Any]] | None) -> None:
    """Put updates into their resources and store those."""
    for resource in merge_updates(resources, updates):
        resource.save()


def merge_updates(resources: Iterable[Any], updates: Iterable[Mapping[str, Any]] | None) -> list[Any]:
    """Put updates into their resources, and return the resources that were changed."""
    by_id = {resource._ovo.id: resource for resource in resources}
    changed = []
    for update in updates or ():
        resource = by_id[update["id"]]
        resource._ovo.update({key: value for key, value in update.items() if key != "id"})
        changed.append(resource)
    return changed
