"""A Cinder group that the array has lost."""

from typing import Any, ClassVar

import pytest
from cinder import exception

from csi_plugin.persistence.records import GroupRecord, GroupSnapshotRecord, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.drivers.loop import LoopDriver
from tests.controller.plugin import Serve


class GroupsDriver(LoopDriver):
    """Has groups, which an array may lose."""

    groups: ClassVar[set[str]] = set()

    def create_group(self, context: Any, group: Any) -> Any:
        self.groups.add(group.id)
        return super().create_group(context, group)

    def update_group(self, context: Any, group: Any, add_volumes: Any = None, remove_volumes: Any = None) -> Any:
        self._check(group.id)
        return super().update_group(context, group, add_volumes, remove_volumes)

    def create_group_snapshot(self, context: Any, group_snapshot: Any, snapshots: Any) -> Any:
        self._check(group_snapshot.group_id)
        return super().create_group_snapshot(context, group_snapshot, snapshots)

    def _check(self, group_id: str) -> None:
        if group_id not in self.groups:
            raise exception.GroupNotFound(group_id=group_id)


@pytest.mark.parametrize("is_larger", [False, True])
def test_a_group_that_the_array_lost_is_made_anew(serve: Serve, is_larger: bool) -> None:
    plugin = serve(driver=f"{__name__}.GroupsDriver")
    volume_ids = [plugin.create(name).volume_id for name in ("pvc-1", "pvc-2", "pvc-3")]

    def snapshot(name: str, ids: list[str]) -> csi_pb2.VolumeGroupSnapshot:
        request = csi_pb2.CreateVolumeGroupSnapshotRequest(name=name, source_volume_ids=ids)
        return plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot

    first = snapshot("one", volume_ids[:2])
    GroupsDriver.groups.clear()
    wanted = volume_ids if is_larger else volume_ids[:2]
    second = snapshot("two", wanted)
    assert [member.ready_to_use for member in second.snapshots] == [True] * len(wanted)
    assert snapshot("two", wanted) == second
    for taken in (first, second):
        ids = [member.snapshot_id for member in taken.snapshots]
        plugin.groups.DeleteVolumeGroupSnapshot(
            csi_pb2.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=taken.group_snapshot_id, snapshot_ids=ids)
        )
    for volume_id in volume_ids:
        plugin.delete(volume_id)
    for _ in range(2):
        plugin.service.recovery.run_once()
    ready = [
        record
        for kind in (VolumeRecord, SnapshotRecord, GroupSnapshotRecord)
        for record in plugin.store.find(kind)
        if record.intent and record.intent.phase is Phase.READY
    ]
    assert (ready, plugin.files()) == ([], [])
    assert [
        group for group in plugin.store.find(GroupRecord) if plugin.store.find(VolumeRecord, group_id=group.id)
    ] == []
