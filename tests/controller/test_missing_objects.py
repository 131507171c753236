"""A driver says, on the way out, that what is to go is not there."""

import logging
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from cinder import exception

from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol import csi_pb2
from tests.controller.drivers import ForgetfulDriver
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import fails

Code = grpc.StatusCode
DRIVER = "tests.controller.drivers.ForgetfulDriver"
ANOTHER = "1b671a64-40d5-491e-99b0-da01ff1f3341"


def no_volume(object_id: str) -> Exception:
    return exception.VolumeNotFound(volume_id=f"volume-{object_id}")


def no_snapshot(object_id: str) -> Exception:
    return exception.SnapshotNotFound(snapshot_id=object_id)


def no_attachment(object_id: str) -> Exception:
    return exception.VolumeAttachmentNotFound(filter=f"volume_id = {object_id}")


def no_group_snapshot(object_id: str) -> Exception:
    return exception.GroupSnapshotNotFound(group_snapshot_id=object_id)


def delete_volume(plugin: Plugin) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    (plugin.directory / f"volume-{volume_id}").unlink()
    plugin.delete(volume_id)


def delete_snapshot(plugin: Plugin) -> None:
    snapshot = plugin.snapshot("snapshot-1", plugin.create("pvc-1").volume_id)
    plugin.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))


def unpublish(plugin: Plugin) -> None:
    plugin.add_node("node-1")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")
    plugin.unpublish(volume_id, "node-1")


def delete_group_snapshot(plugin: Plugin) -> str:
    volume_id = plugin.create("pvc-1").volume_id
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(name="group-1", source_volume_ids=[volume_id])
    taken = plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot
    deletion = csi_pb2.DeleteVolumeGroupSnapshotRequest(
        group_snapshot_id=taken.group_snapshot_id, snapshot_ids=[member.snapshot_id for member in taken.snapshots]
    )
    plugin.groups.DeleteVolumeGroupSnapshot(deletion)
    assert plugin.store.find(SnapshotRecord) == []
    return volume_id


def delete_volume_of_group(plugin: Plugin) -> None:
    volume_id = delete_group_snapshot(plugin)
    (plugin.directory / f"volume-{volume_id}").unlink()
    ForgetfulDriver.word = no_volume
    plugin.delete(volume_id)
    assert [record.id for record in plugin.store.find(VolumeRecord) if record.id == volume_id] == []


@pytest.mark.parametrize(
    ("act", "word", "kind"),
    [
        (delete_volume, no_volume, VolumeRecord),
        (delete_snapshot, no_snapshot, SnapshotRecord),
        (unpublish, no_attachment, ConnectionRecord),
        (delete_group_snapshot, no_group_snapshot, GroupSnapshotRecord),
        (delete_volume_of_group, no_group_snapshot, GroupRecord),
    ],
)
def test_what_the_driver_says_is_gone_is_gone(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    act: Callable[[Plugin], object],
    word: Callable[[str], Exception],
    kind: Any,
) -> None:
    plugin = serve(driver=DRIVER)
    monkeypatch.setattr(ForgetfulDriver, "word", word, raising=False)
    kept = plugin.create("kept").volume_id
    with caplog.at_level(logging.WARNING):
        act(plugin)
    assert [record.id for record in plugin.store.find(kind) if record.id != kept] == []
    assert any("the storage says that it is not there" in line for line in caplog.messages)


def group_of_another(object_id: str) -> Exception:
    return exception.GroupSnapshotNotFound(group_snapshot_id=ANOTHER)


def test_a_group_snapshot_stays_when_another_one_is_not_there(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = serve(driver=DRIVER)
    monkeypatch.setattr(ForgetfulDriver, "word", group_of_another, raising=False)
    with fails(Code.NOT_FOUND, "deleting group snapshot"):
        delete_group_snapshot(plugin)
    assert len(plugin.store.find(GroupSnapshotRecord)) == len(plugin.store.find(SnapshotRecord)) == 1


def of_another(object_id: str) -> Exception:
    return exception.VolumeNotFound(volume_id=ANOTHER)


def of_both(object_id: str) -> Exception:
    return exception.VolumeNotFound(f"source {ANOTHER} of {object_id} is missing")


@pytest.mark.parametrize(
    ("word", "stats_fail", "lists"),
    [
        (of_another, False, list),
        (of_both, False, list),
        (no_snapshot, False, list),
        (no_volume, True, list),  # the storage is out of reach
        (no_volume, False, lambda found: []),  # it is another one: nothing that is recorded is there
    ],
)
def test_doubtful_words_delete_nothing(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    word: Callable[[str], Exception],
    lists: Callable[[list[Any]], list[Any]],
    *,
    stats_fail: bool,
) -> None:
    plugin = serve(driver=DRIVER)
    plugin.create("kept")
    volume_id = plugin.create("pvc-1").volume_id
    for name, value in (("word", word), ("stats_fail", stats_fail), ("lists", lists)):
        monkeypatch.setattr(ForgetfulDriver, name, value, raising=False)
    (plugin.directory / f"volume-{volume_id}").unlink()
    with fails(Code.NOT_FOUND, "deleting volume"):
        plugin.delete(volume_id)
    assert plugin.store.get(VolumeRecord, volume_id) is not None
