"""Whether a volume was taken from a node: only then may what it has not written be given up."""

from pathlib import Path
from typing import Any, cast

import pytest

from csi_plugin.node.cinder_node_client import CinderNodeClient
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.registration import Registration, RemoteRegistry
from csi_plugin.protocol.errors import RpcError, not_found, unavailable
from tests.support.node_services import Tasks

IDENTIFIED = {"connector": {"initiator": "iqn.2026-11.example:node"}, "public_key": "a2V5"}


class Registry:
    """Has no connection of any volume, for a reason."""

    def __init__(self, error: RpcError, *, tells_publications: bool) -> None:
        self.tells_publications = tells_publications
        self._error = error

    def register(self, identity: object) -> None:
        pass

    def connection(self, node_id: str, volume_id: str) -> bytes:
        raise self._error

    def published(self, node_id: str) -> list[str] | None:
        return ["volume-2"]

    def record_filesystem(self, node_id: str, volume_id: str, filesystem: str) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "error", "taken"),
    [
        (RemoteRegistry, not_found("volume_id: not published"), True),
        (RemoteRegistry, unavailable("the controller is away"), False),
        # It has connections for a new key of the node alone.
        (CinderNodeClient, not_found("volume_id: not published"), False),
    ],
)
def test_only_a_registry_that_tells_publications_says_that_a_volume_is_gone(
    tmp_path: Path, kind: type[RemoteRegistry | CinderNodeClient], error: RpcError, taken: bool
) -> None:
    registration = Registration(
        NodeConfiguration(node_id="worker-1", state_dir=tmp_path / "state", locks_dir=tmp_path / "locks"),
        cast(Any, Tasks(identify=lambda **_: IDENTIFIED)),
        Registry(error, tells_publications=kind.tells_publications),
    )
    assert registration.was_taken_away("volume-1") is taken
    if kind is CinderNodeClient:
        assert registration.unpublished(["volume-1", "volume-2"]) == ["volume-1"]
    else:
        assert registration.unpublished(["volume-1"]) == (["volume-1"] if taken else [])
