"""An encrypted volume holds what the CO asked for: its LUKS header is on top, on the storage."""

import json

import grpc

from csi_plugin.persistence.records import SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from tests.controller.plugin import Plugin, unsealed
from tests.support.csi import GIB, fails, from_snapshot, from_volume

Code = grpc.StatusCode
LUKS = {"encryption": "luks2"}


def exactly(gib: int) -> csi_pb2.CapacityRange:
    return csi_pb2.CapacityRange(required_bytes=gib * GIB, limit_bytes=gib * GIB)


def expand(plugin: Plugin, volume_id: str, gib: int) -> int:
    request = csi_pb2.ControllerExpandVolumeRequest(volume_id=volume_id, capacity_range=exactly(gib))
    return int(plugin.controller.ControllerExpandVolume(request).capacity_bytes) // GIB


def stored_gib(plugin: Plugin, volume_id: str) -> int:
    return (plugin.directory / f"volume-{volume_id}").stat().st_size // GIB


def listed_gib(plugin: Plugin) -> dict[str, int]:
    entries = plugin.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    return {entry.volume.volume_id: entry.volume.capacity_bytes // GIB for entry in entries}


def test_the_header_is_on_top(plugin: Plugin) -> None:
    for _ in range(2):
        volume = plugin.create("a", capacity_range=exactly(1), parameters=LUKS)
        assert volume.capacity_bytes == GIB
    assert stored_gib(plugin, volume.volume_id) == 2
    assert expand(plugin, volume.volume_id, 3) == expand(plugin, volume.volume_id, 3) == 3
    assert stored_gib(plugin, volume.volume_id) == 4
    assert listed_gib(plugin) == {volume.volume_id: 3}
    with fails(Code.OUT_OF_RANGE, "present size (3 GiB)"):
        expand(plugin, volume.volume_id, 2)
    with fails(Code.ALREADY_EXISTS, "it has 3 GiB"):
        plugin.create("a", capacity_range=exactly(1), parameters=LUKS)

    snapshot = plugin.snapshot("s", volume.volume_id)
    assert snapshot.size_bytes == 3 * GIB
    for name, source in (("r", from_snapshot(snapshot.snapshot_id)), ("c", from_volume(volume.volume_id))):
        copy = plugin.create(name, capacity_range=exactly(3), parameters=LUKS, volume_content_source=source)
        assert copy.capacity_bytes == 3 * GIB
        assert stored_gib(plugin, copy.volume_id) == 4
        larger = plugin.create(f"{name}2", 5, parameters=LUKS, volume_content_source=source)
        assert (larger.capacity_bytes // GIB, stored_gib(plugin, larger.volume_id)) == (5, 6)


def test_the_node_is_told_where_data_begins(plugin: Plugin) -> None:
    key = plugin.add_node("node-1")
    parameters = LUKS | {"encryption_discards": "true"}
    volume_id = plugin.create("a", parameters=parameters).volume_id
    sealed = plugin.publish(volume_id, "node-1")
    plan = json.loads(unsealed(sealed, key, node_id="node-1", volume_id=volume_id))
    assert plan["encryption"] == {"provider": "luks2", "discards": "true", "header_gib": 1}
    assert plan["size"] == 2


def test_volumes_of_earlier_versions_have_it_inside(plugin: Plugin) -> None:
    key = plugin.add_node("node-1")
    volume_id = plugin.create("a", 2, parameters=LUKS).volume_id
    record = plugin.store.get(VolumeRecord, volume_id)
    assert record is not None
    record.admin_metadata.clear()
    plugin.store.update(record)

    assert listed_gib(plugin) == {volume_id: 3}
    snapshot = plugin.snapshot("s", volume_id)
    assert snapshot.size_bytes == 3 * GIB
    kept = plugin.store.get(SnapshotRecord, snapshot.snapshot_id)
    assert kept is not None and kept.volume_size == 3
    copy = plugin.create("c", 3, parameters=LUKS, volume_content_source=from_snapshot(snapshot.snapshot_id))
    assert (copy.capacity_bytes // GIB, stored_gib(plugin, copy.volume_id)) == (3, 3)
    plan = json.loads(
        unsealed(plugin.publish(copy.volume_id, "node-1"), key, node_id="node-1", volume_id=copy.volume_id)
    )
    assert (plan["encryption"], plan["size"]) == ({"provider": "luks2"}, 3)
    assert expand(plugin, volume_id, 4) == stored_gib(plugin, volume_id) == 4


def test_the_room_for_it_counts(plugin: Plugin) -> None:
    plain, encrypted = (
        plugin.controller.GetCapacity(csi_pb2.GetCapacityRequest(parameters=parameters)) for parameters in ({}, LUKS)
    )
    assert plain.maximum_volume_size.value - encrypted.maximum_volume_size.value == GIB
    assert plain.available_capacity - encrypted.available_capacity == GIB
