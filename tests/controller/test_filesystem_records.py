"""That a volume has had a filesystem is remembered for its whole life, and told to every node that gets it."""

import json

import grpc
import pytest

from csi_plugin.persistence.records import FORMATTED_VOLUMES, NodeRecord
from csi_plugin.protocol import csi_pb2, node_registry_pb2
from tests.controller.plugin import Plugin, unsealed
from tests.support.csi import fails

Code = grpc.StatusCode


@pytest.fixture
def keys(plugin: Plugin) -> dict[str, bytes]:
    return {node_id: plugin.add_node(node_id) for node_id in ("node-1", "node-2")}


def record(plugin: Plugin, node_id: str, volume_id: str) -> None:
    plugin.nodes.RecordFilesystem(
        node_registry_pb2.RecordFilesystemRequest(node_id=node_id, volume_id=volume_id, filesystem="xfs")
    )


def list_on_node(plugin: Plugin, node_id: str, *volume_ids: str) -> None:
    """As a node writes it that has no registry but its own record."""
    node = plugin.store.get(NodeRecord, node_id)
    assert node is not None
    node.connector[FORMATTED_VOLUMES] = list(volume_ids)
    plugin.store.update(node)


def listed(plugin: Plugin, node_id: str) -> bool:
    node = plugin.store.get(NodeRecord, node_id)
    assert node is not None
    return FORMATTED_VOLUMES in node.connector


def is_told(plugin: Plugin, keys: dict[str, bytes], volume_id: str, node_id: str = "node-2") -> bool:
    """Whether a node that gets the volume is told that it has had a filesystem."""
    context = plugin.publish(volume_id, node_id)
    plan = json.loads(unsealed(context, keys[node_id], node_id=node_id, volume_id=volume_id))
    plugin.unpublish(volume_id, node_id)
    return bool(plan.get("formatted"))


def test_another_node_knows(plugin: Plugin, keys: dict[str, bytes]) -> None:
    volume_id, other_id = (plugin.create(name).volume_id for name in ("pvc-1", "pvc-2"))
    assert not is_told(plugin, keys, volume_id)
    plugin.publish(volume_id, "node-1")
    for _ in range(2):
        record(plugin, "node-1", volume_id)
    plugin.unpublish(volume_id)
    assert is_told(plugin, keys, volume_id)
    assert is_told(plugin, keys, volume_id, "node-1")
    assert not is_told(plugin, keys, other_id)


def test_only_a_node_that_has_the_volume_may_tell(plugin: Plugin, keys: dict[str, bytes]) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")
    for node_id, asked, words in (
        ("node-2", volume_id, "not published"),
        ("nobody", volume_id, "not registered"),
        ("node-1", "no-volume", "no volume"),
        ("", "", "node_id"),
    ):
        with fails(Code.NOT_FOUND, words):
            record(plugin, node_id, asked)
    plugin.unpublish(volume_id)
    assert not is_told(plugin, keys, volume_id)


def test_a_copy_has_what_its_source_had_then(plugin: Plugin, keys: dict[str, bytes]) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    before = plugin.snapshot("before", volume_id).snapshot_id
    plugin.publish(volume_id, "node-1")
    record(plugin, "node-1", volume_id)
    after = plugin.snapshot("after", volume_id).snapshot_id

    def copy(name: str, *, snapshot: str = "", volume: str = "") -> str:
        source = csi_pb2.VolumeContentSource()
        if snapshot:
            source.snapshot.snapshot_id = snapshot
        else:
            source.volume.volume_id = volume
        return plugin.create(name, volume_content_source=source).volume_id

    clone = copy("clone", volume=volume_id)
    assert is_told(plugin, keys, clone)
    assert is_told(plugin, keys, copy("clone-of-clone", volume=clone))
    assert is_told(plugin, keys, copy("restored", snapshot=after))
    assert not is_told(plugin, keys, copy("restored-empty", snapshot=before))


def test_what_a_node_wrote_into_its_own_record_counts(plugin: Plugin, keys: dict[str, bytes]) -> None:
    volume_id, foreign_id = (plugin.create(name).volume_id for name in ("pvc-1", "pvc-2"))
    plugin.publish(volume_id, "node-1")
    list_on_node(plugin, "node-1", volume_id, foreign_id)
    snapshot = plugin.snapshot("snapshot", volume_id).snapshot_id
    keys["node-1"] = plugin.add_node("node-1")  # which keeps the list
    plugin.unpublish(volume_id)
    assert is_told(plugin, keys, volume_id)
    assert not is_told(plugin, keys, foreign_id)
    source = csi_pb2.VolumeContentSource()
    source.snapshot.snapshot_id = snapshot
    assert is_told(plugin, keys, plugin.create("restored", volume_content_source=source).volume_id)


def test_a_nodes_list_is_taken_over(plugin: Plugin, keys: dict[str, bytes]) -> None:
    volume_id, foreign_id = (plugin.create(name).volume_id for name in ("pvc-1", "pvc-2"))
    plugin.publish(volume_id, "node-1")
    list_on_node(plugin, "node-1", volume_id, foreign_id, "deleted-long-ago")
    plugin.service.node_registry.take_over_filesystems("node-1")
    assert not listed(plugin, "node-1")
    plugin.store.delete(NodeRecord(id="node-1"))
    plugin.unpublish(volume_id)
    assert is_told(plugin, keys, volume_id)
    assert not is_told(plugin, keys, foreign_id)
