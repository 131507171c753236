"""Backends: made once per name, started as Cinder's volume manager would, read without waiting."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cinder import exception
from cinder.volume import volume_utils

from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import TRUE_BYTES, ConnectionRecord, SnapshotRecord, VolumeRecord
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.backend_configuration import BackendConfiguration
from csi_plugin.storage.backend_set import BackendNotReady, BackendSet, BackendStatus
from csi_plugin.storage.cinder import driver_calls, driver_capabilities, driver_classes, driver_stats, runtime
from csi_plugin.storage.cinder.scheduler import NoPool, capacity, choose
from csi_plugin.storage.drivers.volume_directory import VolumeDirectory
from tests.support.csi import GIB
from tests.support.polling import wait_until
from tests.support.project import LOOP_DRIVER

NewBackend = Callable[..., Backend]
RECORDING = "recording_driver.RecordingDriver"
VOLUMES = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(4)]


def test_the_same_name_and_options_give_the_same_backend(new_backend: NewBackend) -> None:
    first = new_backend(volume_backend_name="same", recording_label="x")
    assert new_backend(volume_backend_name="same", recording_label="x") is first
    assert Backend.backends["same"] is first
    with pytest.raises(ValueError, match="already exists with a different configuration"):
        new_backend(volume_backend_name="same", recording_label="y")
    assert [name for name, _ in first.driver.calls].count("do_setup") == 1


def test_threads_that_ask_for_one_name_at_once_get_one_backend(new_backend: NewBackend) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_backend(volume_backend_name="race"), range(8)))
    assert len(set(map(id, made))) == 1


@pytest.mark.parametrize("name", ["", "a@b", "a#b", " a", "a\nb", None])
def test_names_that_cinder_could_not_take_apart_are_refused(new_backend: NewBackend, name: str) -> None:
    with pytest.raises(ValueError, match="volume_backend_name"):
        new_backend(volume_backend_name=name)


def test_a_backend_that_cannot_start_is_not_there_and_can_be_tried_again(new_backend: NewBackend) -> None:
    with pytest.raises(exception.VolumeBackendAPIException, match="out of reach"):
        new_backend(volume_backend_name="far", recording_label="out of reach")
    assert "far" not in Backend.backends
    assert new_backend(volume_backend_name="far", recording_label="near").name == "far"


def test_what_the_backend_does_not_know_is_asked_of_the_driver(new_backend: NewBackend) -> None:
    backend = new_backend()
    assert backend.get_version() == "1"
    with pytest.raises(AttributeError):
        _ = backend.no_such_thing


def test_stats_always_have_pools(new_backend: NewBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = new_backend()
    legacy = {"volume_backend_name": "b", "vendor_name": "v", "free_capacity_gb": 5, "total_capacity_gb": 9}
    monkeypatch.setattr(backend.driver, "get_volume_stats", lambda refresh: dict(legacy))
    assert backend.stats(refresh=True) == {
        **legacy, "pools": [{"pool_name": backend.id, "free_capacity_gb": 5, "total_capacity_gb": 9}],
    }  # fmt: skip


def test_stats_are_kept_until_a_refresh_is_asked_for(new_backend: NewBackend) -> None:
    backend = new_backend()
    read = backend.driver.stats_read
    backend.driver.free = 3
    assert backend.stats()["pools"][0]["free_capacity_gb"] == 10
    assert backend.stats(refresh=True)["pools"][0]["free_capacity_gb"] == 3
    assert backend.driver.stats_read == read + 1


def test_recent_stats_never_wait_for_a_slow_driver(new_backend: NewBackend) -> None:
    backend = new_backend()
    backend.driver.stats_gate.clear()
    backend.driver.free = 4
    for _ in range(20):
        assert backend.driver_stats.recent(max_age=-1)["pools"][0]["free_capacity_gb"] == 10
    assert backend.driver.stats_read == 2, "one reader in the background, however many ask"
    backend.driver.stats_gate.set()
    wait_until(lambda: backend.driver_stats.recent()["pools"][0]["free_capacity_gb"] == 4, backend.stats)


def test_who_wants_new_stats_waits_a_while(new_backend: NewBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = new_backend()
    monkeypatch.setattr(driver_stats, "MAX_AGE", 0)
    backend.driver.stats_gate.clear()
    backend.driver.free = 4
    backend.driver_stats.read_again(min_age=-1, wait_seconds=0.1)
    assert backend.stats()["pools"][0]["free_capacity_gb"] == 10
    assert "was asked for its stats" in backend.driver_stats.error
    backend.driver.stats_gate.set()
    backend.driver_stats.read_again(min_age=-1)
    assert backend.stats()["pools"][0]["free_capacity_gb"] == 4
    wait_until(lambda: not backend.driver_stats.error, lambda: backend.driver_stats.error)


def test_stats_that_cannot_be_read_leave_the_last_ones(
    new_backend: NewBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend = new_backend()
    backend.driver.fail.add("get_volume_stats")
    backend.driver_stats.read_again(min_age=-1)
    assert backend.stats()["pools"]
    assert "stats of backend" in caplog.text
    with pytest.raises(exception.VolumeBackendAPIException):
        backend.stats(refresh=True)


def test_slots_bound_what_runs_at_once(new_backend: NewBackend) -> None:
    backend = new_backend(max_concurrent_operations=2)
    running, most, lock, all_in = 0, 0, threading.Lock(), threading.Barrier(2)

    def work(_: int) -> None:
        nonlocal running, most
        with backend.slot(), backend.slot():  # one thread takes one place
            with lock:
                running += 1
                most = max(most, running)
            all_in.wait(60)
            with lock:
                running -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == 2
    with pytest.raises(ValueError, match="at least 1"):
        new_backend(max_concurrent_operations=0)


def test_capabilities(new_backend: NewBackend, loop_backend: Backend) -> None:
    recording = new_backend()
    can = {name for name in ("revert", "groups", "retype", "manage", "multiattach", "qos") if recording.supports(name)}
    assert can == set()
    assert recording.supports("online_extend"), "drivers that do not say can"
    assert new_backend(recording_multiattach=True).supports("multiattach")
    for name in ("clone", "snapshot", "revert", "groups", "retype", "manage", "list_manageable", "multiattach"):
        assert loop_backend.supports(name), name
    assert not loop_backend.supports("qos"), "nothing limits a loop device"
    with pytest.raises(ValueError, match="unknown capability 'fly'"):
        loop_backend.supports("fly")


@pytest.mark.parametrize(
    ("name", "lvm_type", "can"),
    [
        ("nfs.NfsDriver", "", False),  # inherits a method that calls another one, which only raises
        ("vzstorage.VZStorageDriver", "", False),
        ("lvm.LVMVolumeDriver", "thin", False),
        ("lvm.LVMVolumeDriver", "default", True),
        ("rbd.RBDDriver", "", True),
    ],
)
def test_reverting_is_no_capability_of_a_driver_that_only_refuses(
    library: None, name: str, lvm_type: str, can: bool
) -> None:
    cls = driver_classes.driver_class(f"cinder.volume.drivers.{name}")
    driver = cls.__new__(cls)
    driver.configuration = SimpleNamespace(lvm_type=lvm_type, safe_get=lambda name: None)
    assert driver_capabilities.supports(driver, "revert", stats={"pools": []}) is can


def test_start_exports_attached_volumes_again_and_refreshes_provider_ids(
    new_backend: NewBackend, store: MemoryPersistence
) -> None:
    host = f"{runtime.host()}@restart#one"
    for volume_id in VOLUMES[:3]:
        store.create(VolumeRecord(id=volume_id, host=host, status="available"))
    store.create(VolumeRecord(id=VOLUMES[3], host=f"{runtime.host()}@other#one"))
    store.create(SnapshotRecord(id=VOLUMES[0], volume_id=VOLUMES[0], backend="restart"))
    store.create(ConnectionRecord(id=VOLUMES[0], volume_id=VOLUMES[1], attach_status="attached"))
    store.create(ConnectionRecord(id=VOLUMES[1], volume_id=VOLUMES[2], attach_status="attaching"))
    store.create(ConnectionRecord(id=VOLUMES[2], volume_id=VOLUMES[3], attach_status="attached"))
    backend = new_backend(volume_backend_name="restart")
    assert ("ensure_export", VOLUMES[1]) in backend.driver.calls
    assert [name for name, _ in backend.driver.calls].count("ensure_export") == 1
    found = [store.get(VolumeRecord, volume_id) for volume_id in VOLUMES]
    assert [record.provider_id if record else "" for record in found] == ["new-0000"] * 3 + [None]
    assert [record.provider_location if record else "" for record in found] == [None, "exported again", None, None]
    snapshot = store.get(SnapshotRecord, VOLUMES[0])
    assert snapshot is not None
    assert snapshot.provider_id == "new-snapshot"


def test_a_volume_that_cannot_be_exported_again_does_not_stop_the_start(
    new_backend: NewBackend, store: MemoryPersistence, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import recording_driver

    store.create(VolumeRecord(id=VOLUMES[0], host=f"{runtime.host()}@broken#one", status="in-use"))
    store.create(ConnectionRecord(id=VOLUMES[0], volume_id=VOLUMES[0], attach_status="attached"))

    def fail(*arguments: object) -> None:
        raise OSError("no target")

    monkeypatch.setattr(recording_driver.RecordingDriver, "ensure_export", fail)
    new_backend(volume_backend_name="broken")
    assert f"volume {VOLUMES[0]} cannot be exported again" in caplog.text


def test_an_unsupported_driver_starts_only_when_it_is_told_to(
    new_backend: NewBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recording_driver

    monkeypatch.setattr(recording_driver.RecordingDriver, "SUPPORTED", False)
    with pytest.raises(exception.InvalidConfigurationValue, match="enable_unsupported_driver"):
        new_backend()
    assert new_backend(enable_unsupported_driver=True)


def test_set_up_happens_once(library: None) -> None:
    with pytest.raises(RuntimeError, match="Already setup"):
        Backend.global_setup()


def test_adopting_a_volume(loop_backend: Backend, tmp_path: Path, store: MemoryPersistence) -> None:
    (tmp_path / "volumes" / "old").write_bytes(b"data")
    listed = [found["reference"] for found in loop_backend.manageable_volumes()]
    assert listed == [{"source-name": "old"}]
    volume = loop_backend.manage_existing("old", name="adopted")
    assert (volume.name, volume.size, volume.status) == ("adopted", 1, "available")
    assert store.get(VolumeRecord, volume.id) is not None
    volume.unmanage()
    assert store.find(VolumeRecord) == []
    with pytest.raises(exception.ManageExistingInvalidReference):
        loop_backend.manage_existing({"source-name": "gone"}, name="x")
    assert store.find(VolumeRecord) == []


def test_what_is_recorded_cannot_be_adopted_through_a_driver_that_renames_anything(
    new_backend: NewBackend, store: MemoryPersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Cinder's RBD driver does, also an image that another backend of the same pool has under its records."""
    import recording_driver

    renamed: list[str] = []
    names: list[str] = []
    can_manage = {
        "manage_existing_get_size": lambda driver, volume, reference: 1,
        "manage_existing": lambda driver, volume, reference: renamed.append(reference["source-name"]),
        "manage_existing_snapshot_get_size": lambda driver, snapshot, reference: 1,
        "manage_existing_snapshot": lambda driver, snapshot, reference: renamed.append(reference["source-name"]),
        "get_manageable_volumes": lambda *_: [
            {"reference": {"source-name": name}, "size": 1, "safe_to_manage": True, "reason_not_safe": None}
            | {"cinder_id": None, "extra_info": None}
            for name in names
        ],
    }
    for name, method in can_manage.items():
        monkeypatch.setattr(recording_driver.RecordingDriver, name, method, raising=False)
    first, second = new_backend(), new_backend()
    volume = first.create_volume(1)
    snapshot = volume.create_snapshot()
    names += [volume.name_in_storage, "disk"]
    for backend in (first, second):
        with pytest.raises(exception.ManageExistingAlreadyManaged, match=f"{volume.id} of backend {first.id}"):
            backend.manage_existing(volume.name_in_storage)
        listed = [(found["safe_to_manage"], found["cinder_id"]) for found in backend.manageable_volumes()]
        assert listed == [(False, volume.id), (True, None)]
    with pytest.raises(exception.ManageExistingInvalidReference, match=snapshot.id):
        volume.manage_existing_snapshot(snapshot.name_in_storage)
    assert (renamed, len(store.find(VolumeRecord)), len(store.find(SnapshotRecord))) == ([], 1, 1)
    second.manage_existing("disk")
    assert renamed == ["disk"]


@pytest.mark.parametrize("second_path", ["volumes", "link", "volumes/inner"])
def test_two_backends_in_one_filesystem_work_and_are_told(
    new_backend: NewBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture, second_path: str
) -> None:
    (tmp_path / "link").symlink_to("volumes")
    first = new_backend(volume_driver=LOOP_DRIVER, loop_volumes_dir=str(tmp_path / "volumes"))
    assert "both have their volumes" not in caplog.text
    second = new_backend(volume_driver=LOOP_DRIVER, loop_volumes_dir=str(tmp_path / second_path))
    assert f"backends {first.id} and {second.id} both have their volumes in the filesystem of" in caplog.text
    assert "max_over_subscription_ratio" in caplog.text
    for backend in (first, second):
        backend.create_volume(1).delete()


def test_two_backends_that_start_in_one_new_directory_hold_each_other_to_no_other_id(
    new_backend: NewBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    give = VolumeDirectory.write_mark

    def write_mark(self: VolumeDirectory, mark: str) -> str | None:
        both.wait(30)  # each has seen that there is none
        return give(self, mark)

    monkeypatch.setattr(VolumeDirectory, "write_mark", write_mark)
    options = {"volume_driver": LOOP_DRIVER, "loop_volumes_dir": str(tmp_path / "volumes")}
    with ThreadPoolExecutor(2) as pool:
        backends = [start.result() for start in [pool.submit(new_backend, **options) for _ in range(2)]]
    for backend in backends:
        backend.create_volume(1).delete()


@pytest.mark.parametrize("grow", [False, True])
def test_adopting_a_volume_that_is_no_whole_number_of_gib(
    loop_backend: Backend, tmp_path: Path, store: MemoryPersistence, monkeypatch: pytest.MonkeyPatch, grow: bool
) -> None:
    grown: list[int] = []
    monkeypatch.setattr(driver_calls, "true_size", lambda driver, volume: GIB * 3 // 2)  # as of LVM's
    monkeypatch.setattr(driver_calls, "extend_volume", lambda driver, volume, size: grown.append(size))
    with (tmp_path / "volumes" / "old").open("wb") as file:
        file.truncate(GIB * 3 // 2)
    volume = loop_backend.manage_existing("old", name="adopted", grow=grow)
    record = store.get(VolumeRecord, volume.id)
    assert record is not None
    assert (record.size, grown) == (2, [2] if grow else [])
    assert record.admin_metadata.get(TRUE_BYTES) == (None if grow else str(GIB * 3 // 2))
    volume.extend(3)
    assert volume.record.admin_metadata.get(TRUE_BYTES) is None


# BackendSet: what the server uses.


def configured(name: str, **options: Any) -> BackendConfiguration:
    return BackendConfiguration.from_arguments(name, volume_driver=RECORDING, strict=True, **options)


def test_a_backend_out_of_reach_stops_neither_the_others_nor_the_process(
    store: MemoryPersistence, caplog: pytest.LogCaptureFixture
) -> None:
    backends = BackendSet(
        [configured("set-far", recording_label="out of reach"), configured("set-near")], first_retry=0.05
    )
    with pytest.raises(BackendNotReady, match="set-near is not ready: not started yet"):
        backends.get("set-near")
    with caplog.at_level(logging.WARNING):
        backends.start()
        assert backends.wait_until_attempted(30)
    try:
        assert backends.get("set-near").name == "set-near"
        assert [backend.name for backend in backends.ready()] == ["set-near"]
        with pytest.raises(BackendNotReady, match=r"set-far is not ready: .*the array is out of reach"):
            backends.get("set-far")
        with pytest.raises(BackendNotReady, match=r"set-no is not configured \(configured: set-far, set-near\)"):
            backends.get("set-no")
        far, near = backends.status()
        assert (far.is_ready, near.is_ready, near.error) == (False, True, "")
        assert "backend set-far cannot be started" in caplog.text
    finally:
        backends.close()
    assert "set-near" not in Backend.backends


def test_a_backend_that_waits_for_its_storage_keeps_no_other_waiting(
    store: MemoryPersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recording_driver

    begun, answered = threading.Event(), threading.Event()

    def do_setup(self: Any, context: object) -> None:
        if self.configuration.recording_label == "slow":
            begun.set()
            answered.wait(60)

    monkeypatch.setattr(recording_driver.RecordingDriver, "do_setup", do_setup)
    backends = BackendSet([configured("set-slow", recording_label="slow")])
    backends.start()
    try:
        assert begun.wait(30)
        backends.configure(configured("set-quick"))
        wait_until(lambda: bool(backends.ready()), backends.status, timeout=20)
        assert [backend.name for backend in backends.ready()] == ["set-quick"]
    finally:
        answered.set()
        backends.close()


def test_a_backend_that_comes_into_reach_is_found(store: MemoryPersistence, monkeypatch: pytest.MonkeyPatch) -> None:
    import recording_driver

    tries = []

    def do_setup(self: object, context: object) -> None:
        tries.append(self)
        if len(tries) < 3:
            raise exception.VolumeBackendAPIException(data="not yet")

    monkeypatch.setattr(recording_driver.RecordingDriver, "do_setup", do_setup)
    backends = BackendSet([configured("set-late")], first_retry=0.02)
    backends.start()
    try:
        assert backends.wait_until_ready(30)
        assert backends.status()[0].attempts == 3
    finally:
        backends.close()


def test_an_unknown_option_is_an_error_in_a_set(store: MemoryPersistence) -> None:
    backends = BackendSet([configured("set-typo", recording_lable="x")])
    backends.start()
    try:
        assert backends.wait_until_attempted(30)
        assert "did you mean recording_label?" in backends.status()[0].error
    finally:
        backends.close()


def test_names_in_a_set_are_unique(store: MemoryPersistence) -> None:
    with pytest.raises(ValueError, match="same volume_backend_name"):
        BackendSet([configured("twice"), configured("twice")])
    with pytest.raises(ValueError, match="needs a volume_backend_name"):
        configured("")


# Backends that are configured anew.


@pytest.fixture
def backend_set(store: MemoryPersistence) -> Iterator[BackendSet]:
    backends = BackendSet(first_retry=0.02, last_retry=0.02)
    backends.start()
    yield backends
    backends.close()


def wait_for_status(backends: BackendSet, **wanted: object) -> BackendStatus:
    """The only backend's status, once its last configuration was tried and it has these values."""

    def status() -> BackendStatus:
        return backends.status()[0]

    wait_until(lambda: bool(status().attempts) and vars(status()).items() >= wanted.items(), status)
    return status()


def test_a_new_configuration_gets_a_driver_of_its_own(backend_set: BackendSet) -> None:
    backend_set.configure(configured("anew", recording_label="old"))
    wait_for_status(backend_set, is_current=True)
    old = backend_set.get("anew")
    backend_set.configure(configured("anew", recording_label="new", topology=[{"zone": "z1"}]))
    wait_for_status(backend_set, is_current=True)
    new = backend_set.get("anew")
    assert (old.driver.configuration.recording_label, new.driver.configuration.recording_label) == ("old", "new")
    assert backend_set.topologies() == {"anew": [{"zone": "z1"}]}
    assert new.reservations is old.reservations  # what the scheduler gave away is taken, whoever makes it
    assert Backend.backends["anew"] is new


def test_what_has_begun_ends_with_the_driver_that_it_began_with(backend_set: BackendSet) -> None:
    backend_set.configure(configured("running", recording_label="old"))
    wait_for_status(backend_set, is_current=True)
    old = backend_set.get("running")
    began, end = threading.Event(), threading.Event()

    def create_volume(volume: object) -> None:
        began.set()
        assert end.wait(30)
        old.driver.calls.append(("created by", old.driver.configuration.recording_label))

    old.driver.create_volume = create_volume
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(old.create_volume, 1)
        assert began.wait(30)
        backend_set.configure(configured("running", recording_label="new"))
        wait_for_status(backend_set, is_current=True)
        new = backend_set.get("running")
        assert new is not old
        assert new.create_volume(1).status == "available"
        end.set()
        assert creation.result(30).status == "available"
    assert old.driver.calls[-1] == ("created by", "old")


@pytest.mark.parametrize(
    ("options", "is_invalid", "message"),
    [
        (
            {"recording_lable": "x"},
            True,
            "unknown option recording_lable of backend kept; did you mean",
        ),
        ({"recording_free_gb": "much"}, True, "option recording_free_gb of backend kept: 'much' is not a valid"),
        ({"recording_label": "out of reach"}, False, "the array is out of reach"),
    ],
)
def test_a_configuration_that_does_not_work_leaves_the_last_good_one(
    backend_set: BackendSet, options: dict[str, object], is_invalid: bool, message: str
) -> None:
    backend_set.configure(configured("kept", recording_free_gb=7))
    wait_for_status(backend_set, is_current=True)
    kept = backend_set.get("kept")
    backend_set.configure(configured("kept", **{"recording_free_gb": 8, **options}))
    status = wait_for_status(backend_set, is_current=False)
    assert (status.is_ready, status.is_invalid) == (True, is_invalid)
    assert message in status.error
    assert backend_set.get("kept") is kept
    assert kept.driver.configuration.recording_free_gb == 7
    # Some drivers look options up by the backend's name; while a driver starts, those are its own.
    recording_opts = type(kept.driver).get_driver_options()
    section = volume_utils.get_backend_configuration("kept", recording_opts)
    wait_until(lambda: section.recording_free_gb == 7, lambda: section.recording_free_gb)
    backend_set.configure(configured("kept", recording_free_gb=9))
    wait_for_status(backend_set, is_current=True, error="")
    assert backend_set.get("kept").driver.configuration.recording_free_gb == 9


def test_values_of_secret_options_are_not_quoted(backend_set: BackendSet) -> None:
    backend_set.configure(configured("discreet", recording_free_gb="hunter2", secret_options=["recording_free_gb"]))
    status = wait_for_status(backend_set, is_invalid=True)
    assert "option recording_free_gb of backend discreet: not a valid" in status.error
    assert "hunter2" not in status.error


def test_a_suspended_backend_takes_no_new_volumes(backend_set: BackendSet) -> None:
    backend_set.configure(configured("paused"))
    backend_set.suspend("paused", True)
    wait_for_status(backend_set, is_current=True)
    with pytest.raises(NoPool, match="backend paused is suspended: it takes no new volumes"):
        choose(backend_set.ready(), size=1)
    assert capacity(backend_set.ready()).available_bytes == 0
    backend_set.configure(configured("paused", recording_label="anew"))
    wait_for_status(backend_set, is_current=True)
    assert capacity(backend_set.ready()).available_bytes == 0
    backend_set.suspend("paused", False)
    assert choose(backend_set.ready(), size=1)[0].name == "paused"


def test_a_removed_backend_is_not_there_any_more(backend_set: BackendSet) -> None:
    backend_set.configure(configured("gone"))
    wait_for_status(backend_set, is_current=True)
    backend_set.remove("gone")
    with pytest.raises(BackendNotReady, match="backend gone is not configured"):
        backend_set.get("gone")
    assert (backend_set.ready(), backend_set.status()) == ([], [])
    assert "gone" not in Backend.backends
    backend_set.configure(configured("gone", recording_label="again"))
    wait_for_status(backend_set, is_current=True)
