"""What is full, nearly full, or away: nothing new goes there, people are told, and what is there can be deleted."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from oslo_concurrency import processutils

from csi_plugin.controller.error_table import code_of
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.cinder import exception, pool_facts, pools
from csi_plugin.storage.cinder.adaptations import nfs_shares, rbd_stats
from csi_plugin.storage.cinder.driver_stats import StatsReading
from tests.controller import drivers
from tests.controller.plugin import Plugin, Serve
from tests.controller.test_health import health
from tests.support.csi import GIB, fails, from_snapshot, from_volume

Code = grpc.StatusCode


def capacity(plugin: Plugin) -> tuple[int, int]:
    answer = plugin.controller.GetCapacity(csi_pb2.GetCapacityRequest())
    return answer.available_capacity, answer.maximum_volume_size.value


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 16 MiB and a few files."""
    directory = tmp_path / "small"
    directory.mkdir()
    options = "size=16m,nr_inodes=12"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> None:
    """Take all room, and all files that may be made."""
    with (directory / ".filling").open("wb") as file, pytest.raises(OSError, match="No space left"):
        os.posix_fallocate(file.fileno(), 0, GIB)
    room = os.statvfs(directory)
    with (directory / ".filling").open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
    for number in range(room.f_favail):
        (directory / f".file-{number}").touch()


@pytest.mark.root
def test_a_full_filesystem(serve: Serve, small: Path) -> None:
    options = {"loop_volumes_dir": str(small), "max_over_subscription_ratio": "1000"}
    plugin = serve(options=options)
    volume = plugin.create("pvc-1").volume_id
    snapshot = plugin.snapshot("snap-1", volume).snapshot_id
    assert capacity(plugin)[1] > GIB
    fill(small)
    plugin.backends.ready()[0].stats(refresh=True)

    assert capacity(plugin) == (0, 0)
    with fails(Code.RESOURCE_EXHAUSTED, "full", "0.0 of 0.02 GiB"):
        plugin.create("pvc-2")
    with fails(Code.RESOURCE_EXHAUSTED, "full"):
        plugin.create("pvc-3", volume_content_source=from_volume(volume))
    with fails(Code.RESOURCE_EXHAUSTED, "full"):
        plugin.create("pvc-4", volume_content_source=from_snapshot(snapshot))
    with fails(Code.FAILED_PRECONDITION, "full"):
        plugin.snapshot("snap-2", volume)
    assert health(plugin, volume) == ["PoolFull"]

    plugin.backends.close()
    again = serve(directory=plugin.directory, options=options)  # which needs no room
    again.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot))
    again.delete(volume)
    assert [path.name for path in small.iterdir() if path.name.startswith(("volume", "snapshot"))] == []


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"free_capacity_gb": 0.0}, ["PoolFull"]),
        ({"free_capacity_gb": 0.4}, ["PoolNearlyFull"]),
        ({"free_capacity_gb": 0.6}, []),
        ({"free_capacity_gb": 0.0, "thin_provisioning_support": False}, []),
        ({pool_facts.REFUSAL: "its metadata is full"}, ["PoolRefuses"]),
    ],
)
def test_volumes_of_pools_that_may_not_take_their_writes(
    plugin: Plugin, changes: dict[str, Any], reasons: list[str]
) -> None:
    volume = plugin.create("pvc-1").volume_id
    (backend,) = plugin.backends.ready()
    stats = backend.driver_stats.last
    pool = stats["pools"][0] | {"free_capacity_gb": 9.0, "total_capacity_gb": 10.0, **changes}
    backend.driver_stats._reading = StatsReading(stats | {"pools": [pool]}, float("inf"), {})
    assert health(plugin, volume) == reasons
    if pool_facts.REFUSAL in changes:
        with fails(Code.FAILED_PRECONDITION, "its metadata is full"):
            plugin.snapshot("snap-1", volume)


def test_a_storage_that_is_away_has_no_room(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = serve(driver="tests.controller.drivers.FaultyDriver")
    volume = plugin.create("pvc-1").volume_id
    (backend,) = plugin.backends.ready()
    monkeypatch.setattr(drivers.FaultyDriver, "down", True)
    pool = backend.stats(refresh=True)["pools"][0]
    pool.update(free_capacity_gb="unknown", total_capacity_gb="unknown")  # as RBD's driver says

    assert capacity(plugin) == (0, 0)
    for fields in ({}, {"volume_content_source": from_volume(volume)}):
        with fails(Code.UNAVAILABLE, "reports that it is down"):
            plugin.create("pvc-2", **fields)
    monkeypatch.setattr(drivers.FaultyDriver, "down", False)
    backend.stats(refresh=True)
    plugin.create("pvc-2")


def test_a_ceph_that_cannot_be_asked_is_down() -> None:
    class Driver:
        def _connect_to_rados(self) -> None: ...

    stats = {"free_capacity_gb": "unknown", "total_capacity_gb": "unknown", "backend_state": "up"}
    rbd_stats.complete(Driver(), stats)
    assert stats["backend_state"] == "down"


def nfs_driver(**rooms: tuple[float, float, float]) -> Any:
    """As far as the adaptation calls Cinder's."""

    class NfsDriver:
        shares = dict.fromkeys(rooms or ["share:/a"])
        _mounted_shares = list(rooms)
        reserved_percentage = 0
        max_over_subscription_ratio = 2.0

        def _get_capacity_info(self, share: str) -> tuple[float, float, float]:
            return rooms[share]

    NfsDriver.__module__ = "cinder.volume.drivers.nfs"
    return NfsDriver()


def test_the_largest_volume_of_nfs_is_on_one_share() -> None:
    driver, stats = nfs_driver(a=(10 * GIB, 5 * GIB, 5 * GIB), b=(30 * GIB, 9 * GIB, 50 * GIB)), dict[str, Any]()
    with nfs_shares.noted(driver):
        for share in driver._mounted_shares:
            driver._get_capacity_info(share)
    nfs_shares.complete(driver, stats)
    assert stats == {pool_facts.LARGEST_GB: 15.0}
    nfs_shares.complete(nfs_driver(), stats)
    assert stats["backend_state"] == "down", "no share is mounted"
    nfs_shares.complete(SimpleNamespace(), other := dict[str, Any]())
    assert other == {}


def test_a_volume_larger_than_the_largest_share(plugin: Plugin) -> None:
    (backend,) = plugin.backends.ready()
    stats = backend.driver_stats.last
    pool = stats["pools"][0] | {pool_facts.LARGEST_GB: 3.5}
    backend.driver_stats._reading = StatsReading(stats | {"pools": [pool]}, float("inf"), {})
    available, largest = capacity(plugin)
    assert (available > 4 * GIB, largest) == (True, 3 * GIB)
    with fails(Code.RESOURCE_EXHAUSTED, "no share has room for 4 GiB"):
        plugin.create("pvc-1", 4)


@pytest.mark.parametrize(
    "error",
    [
        processutils.ProcessExecutionError(
            stderr='  Volume group "vg" has insufficient free space (10 extents): 256 required.', exit_code=5
        ),
        processutils.ProcessExecutionError(
            stderr="  Insufficient suitable allocatable extents for logical volume v: 256 more required", exit_code=5
        ),
        processutils.ProcessExecutionError(
            stderr="  Cannot create new thin volume, free space in thin pool vg/vg-pool reached threshold.", exit_code=5
        ),
        processutils.ProcessExecutionError(stderr="dd: error writing '/mnt/x': No space left on device", exit_code=1),
        exception.NfsNoSuitableShareFound(volume_size=10),
    ],
)
def test_drivers_have_many_words_for_full(error: Exception) -> None:
    assert code_of(error) is Code.RESOURCE_EXHAUSTED


def test_over_subscription_is_modest_unless_someone_says_otherwise(serve: Serve) -> None:
    def ratio(plugin: Plugin) -> float:
        return float(plugin.backends.ready()[0].stats()["pools"][0]["max_over_subscription_ratio"])

    plugin = serve()
    assert ratio(plugin) == 2
    plugin.backends.close()
    assert ratio(serve(options={"max_over_subscription_ratio": "5"})) == 5


def test_a_pool_of_which_too_much_is_promised_names_its_largest_volume(serve: Serve) -> None:
    """Whatever the cause, every claim was refused with "-7775.6 GiB free" afterwards."""
    plugin = serve(driver="tests.controller.drivers.UncountedDriver")
    volume_id = plugin.create("pvc-1").volume_id
    record = plugin.store.get(VolumeRecord, volume_id)
    assert record is not None
    plugin.store.update(replace(record, size=2_000_000_000))
    plugin.backends.ready()[0].driver_stats.refresh()
    with fails(Code.RESOURCE_EXHAUSTED, "wanted, -", f"Its largest volumes: {volume_id} of 2000000000 GiB"):
        plugin.create("pvc-2")
    assert pools.rooms_of(plugin.backends.ready()[0])["loop"] < 0
