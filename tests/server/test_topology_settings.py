"""Topology that no CO could use is refused when settings are read."""

from typing import Any

import pytest

from csi_plugin.server.settings import SettingsError, load

BACKEND = {"name": "loop", "driver": "csi_plugin.storage.drivers.loop.LoopDriver"}


def with_topology(*topologies: Any, **settings: Any) -> dict[str, Any]:
    return {"backends": [{**BACKEND, "topology": list(topologies)}], **settings}


@pytest.mark.parametrize(
    "flags",
    [
        with_topology(),
        with_topology({"topology.example.com/zone": "z1", "topology.example.com/rack": "r_1.a"}),
        with_topology({"zone": "z1"}, {"zone": "z2"}, node_topology={"zone": "z1"}),
    ],
)
def test_topologies_that_the_spec_allows(flags: dict[str, Any]) -> None:
    assert load(flags, environment={}).backends[0]["topology"] == flags["backends"][0]["topology"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (with_topology({"zone": ""}), ["topology of loop", "zone", "63"]),
        (with_topology({"zone": "-z"}), ["topology of loop", "'-z'"]),
        (with_topology({"z" * 64: "a"}), ["topology of loop", "63"]),
        (with_topology({"Example.com/zone": "a"}), ["topology of loop", "'Example.com/zone'"]),
        (with_topology({}), ["topology of loop", "map"]),
        (with_topology("zone"), ["topology of loop", "map"]),
        (with_topology({"zone": "a"}, {"Zone": "b"}), ["'Zone'", "'zone'", "capitals"]),
        (with_topology({"a.io/zone": "a"}, node_topology={"b.io/zone": "a"}), ["same prefix", "a.io, b.io"]),
        (with_topology(topologies=[{"zone": "a b"}]), ["topologies", "'a b'"]),
        (with_topology(node_topology={"/zone": "a"}), ["node_topology", "'/zone'"]),
    ],
)
def test_topologies_that_the_spec_forbids(flags: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(flags, environment={})
    for word in words:
        assert word in str(caught.value)
