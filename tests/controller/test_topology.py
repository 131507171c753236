"""Where a request wants an object to be accessible."""

import pytest

from csi_plugin.controller.requests import topology
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError

Segments = dict[str, str]
A, B, C = {"zone": "a"}, {"zone": "b"}, {"zone": "c"}


def requirements(requisite: list[Segments], preferred: list[Segments] | None = None) -> csi_pb2.TopologyRequirement:
    return csi_pb2.TopologyRequirement(
        requisite=[csi_pb2.Topology(segments=segments) for segments in requisite],
        preferred=[csi_pb2.Topology(segments=segments) for segments in preferred or []],
    )


@pytest.mark.parametrize(
    ("own", "requisite", "expected"),
    [
        ([], [A], True),
        ([A], [], True),
        ([A], [A], True),
        ([A], [B], False),
        ([A, B], [B], True),
        ([A], [A | {"rack": "1"}], True),
        ([A | {"rack": "1"}], [A], True),
        ([A | {"rack": "1"}], [A | {"rack": "2"}], False),
        ([A], [{"rack": "1"}], False),
    ],
)
def test_accessible(own: list[Segments], requisite: list[Segments], expected: bool) -> None:
    assert topology.is_accessible(own, requirements(requisite)) is expected


@pytest.mark.parametrize(
    ("own", "requisite", "said"),
    [
        ([], [A, B], []),
        ([A, B], [], [A, B]),
        ([A], [A], [A]),
        ([A, B], [A, B], [A, B]),
        ([A], [A, B], [A]),
        ([A, B], [A, B, C], [A, B]),
        ([A, B], [A], [A, B]),
        ([A, B], [A, C], [A]),
        ([A, B, C], [B, {"zone": "d"}], [B]),
        ([A, B], [A | {"rack": "1"}, C | {"rack": "1"}], [A]),
    ],
)
def test_accessible_part(own: list[Segments], requisite: list[Segments], said: list[Segments]) -> None:
    """CSI, "TopologyRequirement": x == n is all of them, x < n is x of them, x > n is all of them and others."""
    assert topology.accessible_part(own, requirements(requisite)) == said


def test_preferred_topologies_come_first_and_once() -> None:
    assert topology.wanted_topologies(requirements([A, B], [B])) == [B, A]
    assert topology.wanted_topologies(requirements([], [B])) == [B]


@pytest.mark.parametrize(
    ("requisite", "preferred", "words"),
    [([{}], [], "requisite[0].segments is required"), ([A], [{}], "preferred[0]"), ([A], [B], "among those")],
)
def test_requirements_that_make_no_sense(requisite: list[Segments], preferred: list[Segments], words: str) -> None:
    with pytest.raises(RpcError) as caught:
        topology.check_requirements(requirements(requisite, preferred))
    assert words in caught.value.message


def test_requirements_that_make_sense() -> None:
    topology.check_requirements(requirements([A, B], [B]))
    topology.check_requirements(requirements([], [B]))


def test_as_many_topologies_as_a_request_can_have_are_each_looked_up_once() -> None:
    """Compared with one another they would take minutes, in which nobody else is served."""
    segments: list[Segments] = [{"host": str(number)} for number in range(80_000)]
    wanted = requirements(segments, segments[::-1])
    topology.check_requirements(wanted)
    assert topology.wanted_topologies(wanted) == segments[::-1]
    with pytest.raises(RpcError, match="must be among those of requisite"):
        topology.check_requirements(requirements(segments[1:], segments))
