"""What drivers return for several resources at once: a list of updates, each with the id of its resource."""

from collections.abc import Iterable, Mapping
from typing import Any

from csi_plugin.storage.cinder.driver_answers import InvalidAnswer, take_update


def apply_updates(resources: Iterable[Any], updates: Iterable[Mapping[str, Any]] | None) -> None:
    """Put updates into their resources and store those."""
    for resource in merge_updates(resources, updates):
        resource.save()


def merge_updates(resources: Iterable[Any], updates: Iterable[Mapping[str, Any]] | None) -> list[Any]:
    """Put updates into their resources, and return the resources that were changed. Raises InvalidAnswer."""
    by_id = {resource._ovo.id: resource for resource in resources}
    changed = []
    for update in updates or ():
        resource = by_id.get(update.get("id")) if isinstance(update, Mapping) else None
        if resource is None:
            raise InvalidAnswer("the driver answered a model update of something else than it was asked for")
        take_update(resource._ovo, update)
        changed.append(resource)
    return changed
