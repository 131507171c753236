"""Objects in the storage of which records know nothing: a record was lost, or comes from a backup."""

from typing import Any, ClassVar

import grpc
import pytest
from cinder import exception
from oslo_concurrency.processutils import ProcessExecutionError

from csi_plugin.persistence.base import RecordExists
from csi_plugin.persistence.records import GroupSnapshotRecord, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.drivers.loop import LoopDriver
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import fails

Code = grpc.StatusCode
DRIVER = f"{__name__}.FullDriver"


class DuplicateVolumeName(Exception):
    """As of a vendor's SDK."""


class FullDriver(LoopDriver):
    """Refuses volumes that are there in the words of ``word``, and cannot list what it has."""

    word: ClassVar[Exception]
    get_manageable_volumes = None

    def create_volume(self, volume: Any) -> Any:
        if self._path(volume).exists():
            raise self.word
        return super().create_volume(volume)


WORDS = [
    exception.VolumeBackendAPIException(data="Volume already exists"),
    exception.VolumeBackendAPIException(data="Error code: 32788, Element Name is in use"),
    exception.VolumeBackendAPIException(data="The name has already been used"),
    exception.VolumeDriverException("Detected more than one volume with name volume-1"),
    exception.Duplicate("conflict"),
    DuplicateVolumeName("refused"),
    FileExistsError(17, "File exists"),
    OSError(17, "an error of librbd"),
    ProcessExecutionError(stderr='Logical Volume "volume-1" already exists in volume group "vg"', exit_code=5),
]


@pytest.fixture(params=WORDS, ids=str)
def word(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exception:
    monkeypatch.setattr(FullDriver, "word", request.param, raising=False)
    error: Exception = request.param
    return error


def lose(plugin: Plugin, name: str) -> str:
    """Create a volume with data, and lose its record."""
    volume_id = plugin.create(name).volume_id
    (plugin.directory / f"volume-{volume_id}").open("r+b").write(b"precious")
    record = plugin.store.get(VolumeRecord, volume_id)
    assert record is not None
    plugin.store.delete(record)
    return volume_id


@pytest.mark.usefixtures("word")
def test_a_volume_whose_record_was_lost_keeps_its_data_and_its_name_is_served(serve: Serve) -> None:
    plugin = serve(driver=DRIVER)
    first = lose(plugin, "pvc-1")
    second = plugin.create("pvc-1").volume_id
    for _ in range(3):
        plugin.service.recovery.run_once()
    assert second != first
    assert (plugin.directory / f"volume-{first}").open("rb").read(8) == b"precious"
    orphan = plugin.store.get(VolumeRecord, first)
    assert orphan is not None
    assert orphan.intent is not None
    assert orphan.intent.phase is Phase.ORPHAN
    assert plugin.create("pvc-1").volume_id == second


@pytest.mark.parametrize("words", ["409 Client Error", "request was in conflict", "the LUN's path is in use"])
def test_words_in_doubt_cost_no_data(serve: Serve, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(FullDriver, "word", exception.VolumeBackendAPIException(data=words), raising=False)
    plugin = serve(driver=DRIVER)
    first = lose(plugin, "pvc-1")
    with fails(Code.INTERNAL, "creating volume"):
        plugin.create("pvc-1")
    plugin.service.recovery.run_once()
    assert (plugin.directory / f"volume-{first}").open("rb").read(8) == b"precious"
    assert plugin.create("pvc-1").volume_id != first


def test_many_lost_records_of_a_name_are_named(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, volume: Any) -> None:
        raise exception.VolumeBackendAPIException(data="Volume already exists")

    plugin = serve(driver=DRIVER)
    with monkeypatch.context() as patch:
        patch.setattr(FullDriver, "create_volume", refuse)
        with fails(Code.ALREADY_EXISTS, "no record tells of"):
            plugin.create("pvc-1")
    assert plugin.create("pvc-1").volume_id
    assert len(plugin.store.find(VolumeRecord, csi_name="pvc-1")) == 3


def test_what_does_not_exist_is_no_duplicate(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, volume: Any) -> None:
        raise exception.VolumeBackendAPIException(data="storage pool does not exist")

    plugin = serve(driver=DRIVER)
    monkeypatch.setattr(FullDriver, "create_volume", refuse)
    with fails(Code.INTERNAL, "storage pool does not exist"):
        plugin.create("pvc-1")
    assert len(plugin.store.find(VolumeRecord, csi_name="pvc-1")) == 1


def test_snapshots_whose_records_were_lost_are_kept_and_their_names_served(serve: Serve) -> None:
    plugin = serve()
    volume_ids = [plugin.create(name).volume_id for name in ("pvc-1", "pvc-2")]
    alone = plugin.snapshot("snapshot-1", volume_ids[0]).snapshot_id
    request = csi_pb2.CreateVolumeGroupSnapshotRequest(name="group-1", source_volume_ids=volume_ids)
    group = plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot
    before = plugin.files()
    for kind in (SnapshotRecord, GroupSnapshotRecord):
        for record in plugin.store.find(kind):
            plugin.store.delete(record)

    assert plugin.snapshot("snapshot-1", volume_ids[0]).snapshot_id != alone
    again = plugin.groups.CreateVolumeGroupSnapshot(request).group_snapshot
    assert again.group_snapshot_id != group.group_snapshot_id
    assert [member.ready_to_use for member in again.snapshots] == [True, True]
    for _ in range(2):
        plugin.service.recovery.run_once()
    assert set(before) <= set(plugin.files())


def test_a_record_that_another_one_created_is_no_duplicate(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another controller's attempt, which may still run: it is waited for by the next call."""
    plugin = serve()
    plugin.create("pvc-0")
    tried = []

    def refuse(record: Any) -> Any:
        tried.append(record.id)
        raise RecordExists(f"volume {record.id} exists")

    with monkeypatch.context() as patch:
        patch.setattr(plugin.store, "create", refuse)
        with fails(Code.ABORTED, "exists"):
            plugin.create("pvc-1")
    assert len(tried) == 1
