"""What Cinder's volume manager does around a driver's connection calls, compared with the manager's own code."""

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cinder import exception, objects
from cinder.volume import manager

from csi_plugin.instrumentation import tracing
from csi_plugin.persistence.base import LeadershipLost
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder import driver_calls, driver_classes, runtime, scheduler
from csi_plugin.storage.library_state import STATE

NewBackend = Callable[..., Backend]
VOLUME = "00000000-0000-4000-8000-000000000000"
CONNECTOR = {"initiator": "iqn.node", "host": "node"}


@pytest.fixture
def volume(store: MemoryPersistence) -> Callable[..., Any]:
    def make(**fields: Any) -> Any:
        store.create(VolumeRecord(id=VOLUME, host="h@b#p", size=5, **fields))
        return objects.Volume.get_by_id(runtime.CONTEXT, VOLUME)

    return make


def called(backend: Backend) -> list[str]:
    return [name for name, _ in backend.driver.calls if "connection" in name or "export" in name]


def test_connecting_exports_first(new_backend: NewBackend, volume: Callable[..., Any]) -> None:
    backend, found = new_backend(), volume()
    saved: list[tuple[str, list[str]]] = []

    def save() -> None:
        saved.append((found.provider_location, called(backend)))

    answer = driver_calls.connect(backend.driver, found, CONNECTOR, save=save)
    assert saved == [("exported", ["create_export"])], "the export's model update, before access is granted"
    assert called(backend) == ["create_export", "initialize_connection"]
    assert answer["data"]["target_lun"] == 1


def test_a_connector_that_does_not_fit_is_refused_before_anything_happens(
    new_backend: NewBackend, volume: Callable[..., Any]
) -> None:
    backend = new_backend()
    with pytest.raises(exception.InvalidInput, match="initiator"):
        driver_calls.connect(backend.driver, volume(), {"host": "node"}, save=lambda: None)
    assert called(backend) == []


def test_a_connection_that_fails_leaves_no_export(new_backend: NewBackend, volume: Callable[..., Any]) -> None:
    backend = new_backend()
    backend.driver.fail.add("initialize_connection")
    with pytest.raises(exception.VolumeBackendAPIException, match="initialize_connection fails"):
        driver_calls.connect(backend.driver, volume(), CONNECTOR, save=lambda: None)
    assert called(backend) == ["create_export", "initialize_connection", "remove_export"]


@pytest.mark.parametrize(("last", "expected"), [(True, ["terminate_connection", "remove_export"]),
                                                (False, ["terminate_connection"])])  # fmt: skip
def test_the_last_disconnect_removes_the_export(
    new_backend: NewBackend, volume: Callable[..., Any], last: bool, expected: list[str]
) -> None:
    backend = new_backend()
    driver_calls.disconnect(backend.driver, volume(), CONNECTOR, last=last, force=False)
    assert called(backend) == expected


SPECS = {
    "consumer": "front-end",
    "total_iops_sec_per_gb": "10",
    "total_iops_sec_per_gb_min": "70",
    "read_bytes_sec_per_gb": "100",
    "read_bytes_sec_max": "300",
    "write_iops_sec": "5",
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"qos_specs": SPECS},
        {"qos_specs": {**SPECS, "consumer": "both"}},
        {"qos_specs": {**SPECS, "consumer": "back-end"}},
        {"extra_specs": {"cacheable": "<is> True"}},
        {"extra_specs": {"cacheable": "<is> False"}},
        {"encryption_key_id": VOLUME},
    ],
    ids=lambda fields: "-".join(
        [*fields, *[value.get("consumer", "") for value in fields.values() if "consumer" in value]]
    ),
)
@pytest.mark.parametrize(
    "data",
    [{}, {"encrypted": True, "discard": False, "cacheable": False}, {"cacheable": True, "logical_block_size": "1"}],
    ids=["plain", "driver-says", "driver-says-more"],
)
@pytest.mark.parametrize(
    "options", [{}, {"report_discard_supported": True, "disk_geometry": "512e"}], ids=["", "options"]
)
def test_connection_information_is_completed_as_the_volume_manager_does(
    new_backend: NewBackend,
    volume: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    data: dict[str, Any],
    options: dict[str, Any],
) -> None:
    backend, found = new_backend(**options), volume(**copy.deepcopy(fields))
    answer = {"driver_volume_type": "iscsi", "data": data}
    monkeypatch.setattr(backend.driver, "initialize_connection", lambda *_: copy.deepcopy(answer))
    ours = driver_calls.connect(backend.driver, found, CONNECTOR, save=found.save)
    service = SimpleNamespace(driver=backend.driver)
    service._set_connection_block_size = lambda info: manager.VolumeManager._set_connection_block_size(service, info)
    cinders = manager.VolumeManager._parse_connection_options(service, runtime.CONTEXT, found, copy.deepcopy(answer))
    # Cinder adds this one a step later.
    assert ours["data"].pop("enforce_multipath") is False
    assert ours == cinders


def test_read_only_and_enforced_multipath(new_backend: NewBackend, volume: Callable[..., Any]) -> None:
    backend = new_backend()
    connector = {**CONNECTOR, "enforce_multipath": True}
    data = driver_calls.connect(backend.driver, volume(), connector, save=lambda: None, attach_mode="ro")["data"]
    assert (data["access_mode"], data["enforce_multipath"]) == ("ro", True)


def test_deleting_a_volume_removes_what_is_left_of_its_export(new_backend: NewBackend) -> None:
    backend = new_backend()
    volume = backend.create_volume(1, name="v")
    backend.driver.calls.clear()
    volume.delete()
    assert [name for name, _ in backend.driver.calls] == ["remove_export", "delete_volume"]


def test_a_driver_whose_calls_are_noted_is_taken_for_what_it_is(new_backend: NewBackend) -> None:
    driver = new_backend().driver
    noted = tracing.traced_methods(driver, "driver.")
    assert isinstance(noted, type(driver))
    assert noted.__class__ is type(driver)  # as rbd_clones asks
    assert driver_classes.implements(noted, "create_volume")
    assert not driver_classes.implements(noted, "retype")


def test_deleting_removes_lock_files(new_backend: NewBackend) -> None:
    from cinder import utils
    from oslo_config import cfg

    backend = new_backend()
    volume = backend.create_volume(1, name="v")
    snapshot = volume.create_snapshot("s")
    locks = Path(cfg.CONF.oslo_concurrency.lock_path)
    for name in (f"{volume.id}-delete_volume", f"{snapshot.id}-delete_snapshot"):
        with utils.synchronized(name, external=True)(contextlib.nullcontext)():
            assert (locks / f"cinder-{name}").exists()
    snapshot.delete()
    volume.delete()
    assert not [path for path in locks.iterdir() if volume.id in path.name or snapshot.id in path.name]


def test_capabilities_that_the_administrator_adds(new_backend: NewBackend) -> None:
    backend = new_backend(extra_capabilities='{"level": "gold"}')
    assert scheduler.choose([backend], size=1, extra_specs={"level": "gold"})
    for text in ("{", "[]"):
        with pytest.raises(ValueError, match="option extra_capabilities"):
            new_backend(extra_capabilities=text)


def test_leadership_is_looked_at_before_each_call(new_backend: NewBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only once for an operation, which may have waited between two calls, in the store or in the driver."""
    seen: list[int] = []
    calls: list[Any] = []
    monkeypatch.setattr(STATE, "before_driver_call", lambda: seen.append(len(calls)))
    backend = new_backend()
    calls = backend.driver.calls
    calls.clear()
    seen.clear()
    made = backend.create_volume(1)
    made.connect(CONNECTOR).disconnect()
    made.create_snapshot().delete()
    made.delete()
    backend.stats(refresh=True)
    assert {name for name, _ in calls} >= {"create_volume", "initialize_connection", "remove_export", "delete_volume"}
    assert set(range(len(calls))) <= set(seen)

    def refuse() -> None:
        raise LeadershipLost("this controller's lease has expired")

    before = len(calls)
    monkeypatch.setattr(STATE, "before_driver_call", refuse)
    with pytest.raises(LeadershipLost):
        backend.create_volume(1)
    assert len(calls) == before


def test_what_adaptations_set_on_the_driver_is_seen_by_its_own_methods(new_backend: NewBackend) -> None:
    backend = new_backend()
    asked: list[str] = []
    backend.calls.get_volume_stats_marker = asked.append
    backend.driver.get_volume_stats_marker("here")
    assert asked == ["here"]
    del backend.calls.get_volume_stats_marker
    assert not hasattr(backend.driver, "get_volume_stats_marker")
