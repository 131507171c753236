"""Requests in a normalized form."""

from csi_plugin.controller.requests.fingerprint import fingerprint, normalize_capabilities, normalize_topologies
from csi_plugin.protocol import csi_pb2
from tests.support.csi import block, capability, mount


def test_order_of_keys_does_not_matter() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})


def test_order_and_values_of_lists_matter() -> None:
    assert len({fingerprint(value) for value in ([1, 2], [2, 1], ["1", 2], [1, [2]])}) == 4


def test_capabilities_are_sorted_and_named_once() -> None:
    assert normalize_capabilities([mount(), block()]) == normalize_capabilities([block(), mount(), mount()])
    assert len(normalize_capabilities([mount(), mount()])) == 1


def test_mount_flags_change_nothing_and_are_not_kept() -> None:
    (normalized,) = normalize_capabilities([capability("xfs", flags=("password=secret",))])

    assert normalized == {"access": "mount", "mode": "SINGLE_NODE_WRITER", "fs_type": "xfs"}


def test_topologies_keep_their_order() -> None:
    topologies = [csi_pb2.Topology(segments={"zone": zone}) for zone in ("b", "a")]

    assert normalize_topologies(topologies) == [{"zone": "b"}, {"zone": "a"}]
