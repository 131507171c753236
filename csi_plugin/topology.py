"""CSI topologies: from where a volume can be reached."""

from collections.abc import Mapping, Sequence

Segments = Mapping[str, str]
"""A topology's values by key, such as ``{"topology.kubernetes.io/zone": "east"}``."""


def everywhere(driver_name: str) -> dict[str, str]:
    """Segments of a node for which no others were set: one that all nodes of the driver share, and no other driver has.

    COs make room known, and place volumes, by the segments of nodes, so each node has some.
    """
    return {f"{driver_name.lower()}/reach": "all"}


def is_accessible(topology: Sequence[Segments], wanted: Sequence[Segments]) -> bool:
    """Whether what is accessible from ``topology`` is accessible from any of the wanted topologies.

    An empty ``topology`` is everywhere, and an empty ``wanted`` is anywhere. Two topologies match where one has all
    segments of the other: a zone is reached from each of its hosts.
    """
    if not topology or not wanted:
        return True
    return any(_is_within(own, other) or _is_within(other, own) for own in topology for other in wanted)


def _is_within(inner: Segments, outer: Segments) -> bool:
    return all(outer.get(name) == value for name, value in inner.items())
