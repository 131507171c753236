"""Choosing pools and counting room, with Cinder's own filters and weighers."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from oslo_config import cfg

from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder import pools, scheduler
from tests.support.csi import GIB

NewBackend = Callable[..., Backend]


def test_the_pool_with_most_room_is_chosen(new_backend: NewBackend) -> None:
    small, large = new_backend(recording_free_gb=5), new_backend(recording_free_gb=50)
    assert scheduler.choose([small, large], size=1) == (large, "one")


def test_a_pool_can_be_named(new_backend: NewBackend) -> None:
    backend = new_backend(recording_pools="a,b,c")
    assert scheduler.choose([backend], size=1, pool_name="b") == (backend, "b")


def test_extra_specs_choose_by_capability(new_backend: NewBackend) -> None:
    backend = new_backend()
    assert scheduler.choose([backend], size=1, extra_specs={"colour": "red"})
    assert scheduler.choose([backend], size=1, extra_specs={"vendor:anything": "x"}), "scoped ones are the driver's"
    with pytest.raises(scheduler.NoPool, match=r"#one: CapabilitiesFilter \(wanted: colour=blue\)"):
        scheduler.choose([backend], size=1, extra_specs={"colour": "blue"})


def test_the_message_says_why_each_pool_was_refused(new_backend: NewBackend) -> None:
    first, second = (
        new_backend(volume_backend_name="first"),
        new_backend(volume_backend_name="second", recording_free_gb=3),
    )
    with pytest.raises(scheduler.NoPool) as caught:
        scheduler.choose([first, second], size=11)
    assert "first#one: CapacityFilter (11 GiB wanted, 10.0 GiB free)" in str(caught.value)
    assert "second#one: CapacityFilter (11 GiB wanted, 3.0 GiB free)" in str(caught.value)
    with pytest.raises(scheduler.NoPool, match="no backend is ready"):
        scheduler.choose([], size=1)
    with pytest.raises(scheduler.NoPool, match="several nodes"):
        scheduler.choose([first], size=1, multiattach=True)


def test_topology(new_backend: NewBackend) -> None:
    east = new_backend(topology=[{"zone": "east"}])
    west = new_backend(topology=[{"zone": "west"}], recording_free_gb=50)
    anywhere = new_backend(recording_free_gb=1)
    assert scheduler.choose([east, west], size=1, topology=[{"zone": "east"}])[0] is east
    assert scheduler.choose([east, west], size=1, topology=[{"zone": "east", "host": "n1"}])[0] is east
    assert scheduler.choose([east, west], size=1, topology=[{"zone": "west"}, {"zone": "east"}])[0] is west
    assert scheduler.choose([east, west], size=1, topology=[{"zone": "east"}, {"zone": "west"}])[0] is east
    assert scheduler.choose([west, anywhere], size=1, topology=[{"zone": "north"}])[0] is anywhere
    with pytest.raises(scheduler.NoPool, match="not reachable from the wanted topology"):
        scheduler.choose([east, west], size=1, topology=[{"zone": "north"}])


def test_a_full_place_gives_way_to_the_next_one(new_backend: NewBackend) -> None:
    east, west = new_backend(topology=[{"zone": "east"}], recording_free_gb=1), new_backend(topology=[{"zone": "west"}])
    chosen, _ = scheduler.choose([east, west], size=2, topology=[{"zone": "east"}, {"zone": "west"}])
    assert chosen is west


def test_requests_side_by_side_do_not_see_the_same_room(new_backend: NewBackend) -> None:
    backends = [new_backend(), new_backend()]  # 10 GiB each
    start = threading.Barrier(32)

    def ask(_: int) -> str | None:
        start.wait(60)
        try:
            return scheduler.choose(backends, size=1)[0].name
        except scheduler.NoPool:
            return None

    with ThreadPoolExecutor(32) as pool:
        chosen = list(pool.map(ask, range(32)))
    assert [chosen.count(backend.name) for backend in backends] == [10, 10]
    assert chosen.count(None) == 12


def test_a_reservation_ends_when_the_stats_show_the_volume(new_backend: NewBackend, store: MemoryPersistence) -> None:
    backend = new_backend()
    for _ in range(3):
        scheduler.choose([backend], size=3)
    volume = backend.create_volume(3, name="made", pool_name="one")
    assert scheduler.capacity([backend]).available_bytes == 1 * GIB, "the stats are from before"
    backend.driver.free = 7
    backend.driver_stats.read_again(min_age=-1)
    assert scheduler.capacity([backend]).available_bytes == 1 * GIB, "one in the stats, two reserved"
    volume.delete()


def test_room_of_deleted_volumes_is_found(new_backend: NewBackend) -> None:
    backend = new_backend(recording_free_gb=0)
    backend.driver.free = 5
    backend.driver_stats._reading = replace(backend.driver_stats._reading, asked_at=0.0)  # they are old
    assert scheduler.choose([backend], size=5) == (backend, "one")


def test_capacity(new_backend: NewBackend) -> None:
    first, second = new_backend(recording_free_gb=7, recording_pools="a,b"), new_backend(recording_free_gb=20)
    room = scheduler.capacity([first, second])
    assert (room.available_bytes, room.maximum_bytes, room.minimum_bytes) == (34 * GIB, 20 * GIB, GIB)
    assert scheduler.capacity([first, second], pool_name="b").available_bytes == 7 * GIB
    assert scheduler.capacity([first, second], extra_specs={"colour": "blue"}).available_bytes == 0
    assert scheduler.capacity([first, second], topology=[{"zone": "x"}]).maximum_bytes == 20 * GIB
    assert scheduler.capacity([first, second], multiattach=True).available_bytes == 0
    assert scheduler.capacity([]).maximum_bytes == 0


def test_unknown_capacity_has_no_limit(new_backend: NewBackend) -> None:
    backend = new_backend()
    backend.driver.free = "unknown"
    backend.stats(refresh=True)
    room = scheduler.capacity([backend])
    assert (room.available_bytes, room.maximum_bytes) == (scheduler.BOUNDLESS, None)
    assert scheduler.choose([backend], size=10**6)


def test_capacity_does_not_wait_for_a_slow_driver(new_backend: NewBackend) -> None:
    backend = new_backend()
    backend.driver.stats_gate.clear()
    backend.driver_stats._reading = replace(backend.driver_stats._reading, asked_at=0.0)
    assert scheduler.capacity([backend]).available_bytes == 10 * GIB
    backend.driver.stats_gate.set()


def test_thin_provisioning_counts_what_was_promised(loop_backend: Backend) -> None:
    before = scheduler.capacity([loop_backend]).available_bytes
    volume = loop_backend.create_volume(10, name="thin")
    loop_backend.stats(refresh=True)
    assert before - scheduler.capacity([loop_backend]).available_bytes == pytest.approx(10 * GIB, abs=GIB)
    volume.delete()


def test_drivers_that_do_not_count_get_their_volumes_counted(
    new_backend: NewBackend, store: MemoryPersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = new_backend()
    whole = backend.driver.get_volume_stats()
    del whole["pools"][0]["provisioned_capacity_gb"]
    whole["pools"][0].update(thin_provisioning_support=True, max_over_subscription_ratio="2.0")
    monkeypatch.setattr(backend.driver, "get_volume_stats", lambda refresh: whole)
    store.create(VolumeRecord(id="v", host=f"{backend.host}#one", size=30))
    backend.stats(refresh=True)
    assert scheduler.capacity([backend]).available_bytes == (2 * 100 - 30) * GIB


def test_filters_that_cinders_options_name(new_backend: NewBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    picky, easy = new_backend(filter_function="1 > 2"), new_backend(filter_function="1 < 2")
    monkeypatch.setattr(pools, "_filter_classes", pools._filter_classes.__wrapped__)  # read at every choice
    assert scheduler.choose([picky], size=5)
    cfg.CONF.set_override("scheduler_default_filters", ["CapacityFilter", "DriverFilter"])
    try:
        assert scheduler.choose([easy], size=3)
        with pytest.raises(scheduler.NoPool, match="DriverFilter"):
            scheduler.choose([picky], size=3)
        cfg.CONF.set_override("scheduler_default_filters", ["NoFilter"])
        with pytest.raises(ValueError, match="scheduler_default_filters: there is no NoFilter; known are"):
            scheduler.choose([easy], size=1)
    finally:
        cfg.CONF.clear_override("scheduler_default_filters")
