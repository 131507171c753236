"""Backends that have their volumes in one and the same place, which is seldom meant: a warning at their start."""

import logging
from collections.abc import Iterable

from csi_plugin.storage.cinder.adaptations.storage_places import Place

LOG = logging.getLogger(__name__)


def warn(backend: str, places: Iterable[Place], others: Iterable[tuple[str, Iterable[Place]]]) -> None:
    """Log what a backend that has just started shares with each of the ``others``, which serve: names and places."""
    own = {place.key: place for place in places}
    for name, theirs in others:
        for place in [own[other.key] for other in theirs if other.key in own and name != backend]:
            LOG.warning(
                "backends %s and %s both have their volumes in %s: each reports all of its room as its own%s",
                name,
                backend,
                place.name,
                f"; {place.warning}" if place.warning else "",
            )
