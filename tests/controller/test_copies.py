"""CreateVolume from a snapshot or a volume."""

import grpc

from csi_plugin.protocol import csi_pb2
from tests.controller.plugin import Plugin
from tests.support.csi import GIB, fails, from_snapshot, from_volume

Code = grpc.StatusCode


def test_copies_go_to_their_source(plugin: Plugin) -> None:
    source = plugin.create("source", 2)
    (plugin.directory / f"volume-{source.volume_id}").open("r+b").write(b"precious")
    snapshot = plugin.snapshot("snap", source.volume_id)

    restored = plugin.create("restored", 3, volume_content_source=from_snapshot(snapshot.snapshot_id))
    cloned = plugin.create("cloned", 2, volume_content_source=from_volume(source.volume_id))

    assert restored.content_source.snapshot.snapshot_id == snapshot.snapshot_id
    assert cloned.content_source.volume.volume_id == source.volume_id
    for copy, size in ((restored, 3), (cloned, 2)):
        file = plugin.directory / f"volume-{copy.volume_id}"
        assert copy.capacity_bytes == file.stat().st_size == size * GIB
        assert file.open("rb").read(8) == b"precious"
    assert plugin.create("restored", 3, volume_content_source=from_snapshot(snapshot.snapshot_id)) == restored


def test_repeat_of_a_copy_answers_after_its_source_is_deleted(plugin: Plugin) -> None:
    source = plugin.create("source")
    snapshot = plugin.snapshot("snap", source.volume_id)
    copies = {
        "cloned": from_volume(source.volume_id),
        "restored": from_snapshot(snapshot.snapshot_id),
    }
    made = {name: plugin.create(name, volume_content_source=origin) for name, origin in copies.items()}
    plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))
    plugin.delete(source.volume_id)

    for name, origin in copies.items():
        assert plugin.create(name, volume_content_source=origin) == made[name]
    with fails(Code.NOT_FOUND, "volume_content_source"):
        plugin.create("late", volume_content_source=copies["cloned"])


def test_copy_without_capacity_has_the_size_of_its_source(plugin: Plugin) -> None:
    source = plugin.create("source", 2)

    copy = plugin.create(
        "copy", capacity_range=csi_pb2.CapacityRange(), volume_content_source=from_volume(source.volume_id)
    )
    assert copy.capacity_bytes == 2 * GIB


def test_copy_errors(plugin: Plugin) -> None:
    source = plugin.create("source", 2)

    with fails(Code.NOT_FOUND, "volume_content_source.snapshot.snapshot_id"):
        plugin.create("a", volume_content_source=from_snapshot("nothing"))
    with fails(Code.NOT_FOUND, "volume_content_source.volume.volume_id"):
        plugin.create("a", volume_content_source=from_volume("nothing\x00"))
    with fails(Code.OUT_OF_RANGE, "2 GiB"):
        plugin.create("a", 1, volume_content_source=from_volume(source.volume_id))
    with fails(Code.INVALID_ARGUMENT, "source", "backend"):
        plugin.create("a", 2, volume_content_source=from_volume(source.volume_id), parameters={"backend": "other"})
    with fails(Code.INVALID_ARGUMENT, "source", "pool"):
        plugin.create("a", 2, volume_content_source=from_volume(source.volume_id), parameters={"pool_name": "other"})
    with fails(Code.INVALID_ARGUMENT, "encryption"):
        plugin.create("a", 2, volume_content_source=from_volume(source.volume_id), parameters={"encryption": "luks2"})
