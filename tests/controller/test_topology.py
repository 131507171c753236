"""Where a request wants an object to be accessible."""

import pytest

from csi_plugin.controller.requests import topology
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError

Segments = dict[str, str]
A, B = {"zone": "a"}, {"zone": "b"}


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
