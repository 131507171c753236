"""Health of volumes as the controller knows it: from records, the backends' last stats and their last lists."""

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from csi_plugin.storage.cinder import driver_stats, inventory
from csi_plugin.storage.cinder.driver_stats import StatsReading
from tests.controller import drivers
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import GIB, fails
from tests.support.polling import wait_until

Code = grpc.StatusCode


@pytest.fixture(autouse=True)
def room_of_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool is the filesystem below the test, which may be nearly full on the machine that runs it."""
    monkeypatch.setattr(driver_stats, "NEARLY_FULL", driver_stats.FULL)


def health(plugin: Plugin, volume_id: str) -> list[str]:
    answer = plugin.controller.ControllerGetVolumeHealth(csi_pb2.ControllerGetVolumeHealthRequest(volume_id=volume_id))
    assert answer.volume_health.volume_id == volume_id
    inaccessible = {"BackendDown", "NotOnStorage"}
    for entry in answer.volume_health.health_statuses:
        assert entry.status == (csi_pb2.INACCESSIBLE if entry.reason in inaccessible else csi_pb2.DEGRADED)
        assert entry.message
    return [entry.reason for entry in answer.volume_health.health_statuses]


def test_health_of_a_volume_whose_operation_failed(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.FaultyDriver")
    good, rigid = plugin.create("good").volume_id, plugin.create("rigid").volume_id
    with fails(Code.INTERNAL, "cannot grow"):
        plugin.controller.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=rigid, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB)
            )
        )

    assert health(plugin, good) == []
    assert health(plugin, rigid) == ["OperationFailed"]
    listed = plugin.controller.ControllerListVolumeHealth(csi_pb2.ControllerListVolumeHealthRequest()).entries
    assert [entry.volume_id for entry in listed] == [rigid]
    with fails(Code.NOT_FOUND, "volume_id"):
        health(plugin, "nothing")
    with fails(Code.INVALID_ARGUMENT, "volume_id is required"):
        health(plugin, "")


def test_health_of_a_volume_that_is_gone_from_the_storage(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_MIN_AGE", 0.0)
    here, away = (plugin.create(name).volume_id for name in ("here", "away"))
    (backend,) = plugin.backends.ready()

    def listed(*volume_ids: str) -> bool:
        health(plugin, here)
        return backend.inventory._listed == {f"volume-{volume_id}" for volume_id in volume_ids}

    wait_until(lambda: listed(here, away), lambda: str(backend.inventory._listed))
    assert health(plugin, away) == []
    file = (plugin.directory / f"volume-{away}").rename(plugin.directory.parent / "away")
    wait_until(lambda: health(plugin, away) == ["NotOnStorage"], plugin.files)
    assert health(plugin, here) == []
    plugin.service.health_watch.look()
    assert [reason for reason, _ in plugin.service.health_watch.problems_of(away)] == ["NotOnStorage"]
    file.rename(plugin.directory / f"volume-{away}")
    wait_until(lambda: health(plugin, away) == [], plugin.files)


def test_health_in_a_full_pool_and_at_a_storage_that_does_not_answer(plugin: Plugin) -> None:
    volume_id = plugin.create("pvc-1").volume_id
    (backend,) = plugin.backends.ready()
    stats = backend.driver_stats
    full = stats.last["pools"][0] | {"free_capacity_gb": 0.0, "total_capacity_gb": 10.0}
    read, never_old = stats.last, float("inf")
    stats._reading = StatsReading(read | {"pools": [full]}, never_old, {})
    assert health(plugin, volume_id) == ["PoolFull"]
    stats._reading, stats._failure = StatsReading(read, never_old, {}), "connection refused"
    assert health(plugin, volume_id) == ["BackendUnreachable"]
    stats._failure = ""
    assert health(plugin, volume_id) == []


def test_health_while_the_storage_is_down(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = serve(driver="tests.controller.drivers.FaultyDriver")
    volumes = sorted(plugin.create(f"pvc-{number}").volume_id for number in range(3))
    monkeypatch.setattr(drivers.FaultyDriver, "down", True)
    plugin.backends.ready()[0].stats(refresh=True)

    first = plugin.controller.ControllerListVolumeHealth(csi_pb2.ControllerListVolumeHealthRequest(max_entries=2))
    rest = plugin.controller.ControllerListVolumeHealth(
        csi_pb2.ControllerListVolumeHealthRequest(starting_token=first.next_token)
    )
    assert [entry.volume_id for entry in (*first.entries, *rest.entries)] == volumes
    assert {entry.health_statuses[0].reason for entry in first.entries} == {"BackendDown"}
