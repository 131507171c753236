"""Where a request wants an object to be accessible, and whether it is."""

from collections.abc import Iterable, Sequence

from csi_plugin import topology as topology_rules
from csi_plugin.controller.requests.fingerprint import normalize_topologies
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import invalid_argument
from csi_plugin.topology import Segments


def check_requirements(requirements: csi_pb2.TopologyRequirement) -> None:
    """Refuse, with INVALID_ARGUMENT, topologies without segments and preferred ones that are not requisite."""
    for name in ("requisite", "preferred"):
        for number, topology in enumerate(getattr(requirements, name)):
            if not topology.segments:
                raise invalid_argument(f"accessibility_requirements.{name}[{number}].segments is required")
    requisite = _as_set(requirements.requisite)
    if requisite and not _as_set(requirements.preferred) <= requisite:
        raise invalid_argument("accessibility_requirements.preferred must be among those of requisite")


def _as_set(topologies: Iterable[csi_pb2.Topology]) -> set[frozenset[tuple[str, str]]]:
    """To be searched: where each node has a topology of its own, there are as many as nodes."""
    return {frozenset(segments.items()) for segments in normalize_topologies(topologies)}


def wanted_topologies(requirements: csi_pb2.TopologyRequirement) -> list[dict[str, str]]:
    """Where the volume may be, the most wanted first."""
    wanted = normalize_topologies([*requirements.preferred, *requirements.requisite])
    return list({frozenset(segments.items()): segments for segments in wanted}.values())


def accessible_part(topology: Sequence[Segments], requirements: csi_pb2.TopologyRequirement) -> list[dict[str, str]]:
    """From where a new volume is said to be accessible, whose backend is accessible from ``topology``.

    CSI, "TopologyRequirement": from every requisite topology, and then from others too; or from requisite ones alone.
    """
    requisite = normalize_topologies(requirements.requisite)
    is_within_all = all(topology_rules.is_accessible(topology, [segments]) for segments in requisite)
    return [
        dict(segments) for segments in topology if is_within_all or topology_rules.is_accessible([segments], requisite)
    ]


def is_accessible(topology: Sequence[Segments], requirements: csi_pb2.TopologyRequirement) -> bool:
    """Whether a volume that is accessible from ``topology`` (everywhere when empty) meets the requisite topologies."""
    return topology_rules.is_accessible(topology, normalize_topologies(requirements.requisite))
