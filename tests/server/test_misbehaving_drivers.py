"""Whatever a driver raises, answers or leaves undone, callers get a status, records are true, the process goes on."""

import re
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
from cinder import exception

from csi_plugin.controller.error_table import code_of
from csi_plugin.protocol import csi_pb2
from tests.server.misbehaving_driver import new_error
from tests.support.csi import GIB, MOUNT, create_request, fails
from tests.support.network import free_ports
from tests.support.polling import wait_until
from tests.support.serving import QUICK, Served, serving

Code = grpc.StatusCode
pytestmark = pytest.mark.root

EXITS = ("SystemExit", "KeyboardInterrupt", "CancelledError", "GeneratorExit")
PYTHONS = ("OSError", "KeyError", "MemoryError", "RecursionError", "StopIteration", "UnicodeDecodeError")
CINDERS = tuple(
    name
    for name, found in vars(exception).items()
    if isinstance(found, type) and issubclass(found, Exception) and found.__module__ == exception.__name__
)


class Driver:
    """The misbehaving driver's server."""

    def __init__(self, served: Served, port: int) -> None:
        self.served, self.controller = served, served.controller
        self.faults = served.folder / "faults"
        self._port = port
        self._names = iter(range(10_000))

    @contextmanager
    def that(self, method: str, fault: str) -> Iterator[None]:
        (self.faults / method).write_text(fault)
        try:
            yield
        finally:
            (self.faults / method).unlink()

    def create(self, name: str = "", timeout: float = 60) -> str:
        request = create_request(name or f"volume-{next(self._names)}", volume_capabilities=[MOUNT])
        volume_id: str = self.controller.CreateVolume(request, timeout=timeout).volume.volume_id
        return volume_id

    def delete(self, volume_id: str) -> None:
        self.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id), timeout=60)

    def publish(self, volume_id: str) -> None:
        request = csi_pb2.ControllerPublishVolumeRequest(
            volume_id=volume_id, node_id="test-node", volume_capability=MOUNT
        )
        self.controller.ControllerPublishVolume(request, timeout=60)

    def unpublish(self, volume_id: str) -> None:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id="test-node")
        self.controller.ControllerUnpublishVolume(request, timeout=60)

    def expand(self, volume_id: str) -> None:
        request = csi_pb2.ControllerExpandVolumeRequest(
            volume_id=volume_id, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB), volume_capability=MOUNT
        )
        self.controller.ControllerExpandVolume(request, timeout=60)

    def snapshot(self, volume_id: str) -> str:
        request = csi_pb2.CreateSnapshotRequest(name=f"of-{volume_id}", source_volume_id=volume_id)
        snapshot_id: str = self.controller.CreateSnapshot(request, timeout=60).snapshot.snapshot_id
        return snapshot_id

    def delete_snapshot(self, snapshot_id: str) -> None:
        self.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id), timeout=60)

    def statuses(self, table: str = "volumes") -> dict[str, str]:
        """What the records say, by id."""
        with closing(sqlite3.connect(f"file:{self.served.database}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(f"SELECT id, status FROM {table} WHERE NOT deleted").fetchall())

    def said_ok(self) -> int:
        """How many calls were OK by the metrics, but for those that are made all the time."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=60).read().decode()
        counts = re.findall(r'^cinderbox_rpc_duration_seconds_count\{code="OK",method="(\w+)"\} (\d+)', text, re.M)
        return sum(int(float(count)) for method, count in counts if method not in ("Probe", "RegisterNode"))


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp("misbehaving")
    (folder / "faults").mkdir()
    (port,) = free_ports(1)
    environment = QUICK | {
        "TEST_FAULTS": str(folder / "faults"),
        "CINDERBOX_HTTP_ADDRESS": f"127.0.0.1:{port}",
        "CINDERBOX_LOG_LEVEL": "info",
    }
    name = "tests.server.misbehaving_driver.MisbehavingDriver"
    with serving(folder, driver=name, environment=environment) as served:
        yield Driver(served, port)


@pytest.fixture
def driver(misbehaving: Driver) -> Iterator[Driver]:
    """It is the same process afterwards, and serves."""
    yield misbehaving
    assert misbehaving.served.is_running()
    volume_id = misbehaving.create()
    misbehaving.served.wait_until_ready()
    misbehaving.delete(volume_id)


def test_each_of_cinders_and_pythons_errors_has_its_status(driver: Driver) -> None:
    volume_id = driver.create()
    before = driver.said_ok()
    for name in (*CINDERS, *PYTHONS, "UnspeakableError"):
        expected = code_of(new_error(name))
        with driver.that("initialize_connection", f"raise {name}"), pytest.raises(grpc.RpcError) as caught:
            driver.publish(volume_id)
        assert caught.value.code() is expected, (name, caught.value.details())
    assert driver.said_ok() == before
    assert driver.statuses()[volume_id] == "available"
    driver.publish(volume_id)
    driver.unpublish(volume_id)
    driver.delete(volume_id)


@pytest.mark.parametrize("name", [*EXITS, "UnspeakableError"])
def test_what_would_end_a_thread_is_an_error_of_the_call(driver: Driver, name: str) -> None:
    files = driver.served.files()
    volume_id, other, third = driver.create(), driver.create(), driver.create()
    snapshot_id = driver.snapshot(volume_id)
    calls: dict[str, Callable[[], object]] = {
        "create_volume": lambda: driver.create(f"made-{name}"),
        "extend_volume": lambda: driver.expand(other),
        "create_snapshot": lambda: driver.snapshot(third),
        "delete_snapshot": lambda: driver.delete_snapshot(snapshot_id),
        "initialize_connection": lambda: driver.publish(other),
        "delete_volume": lambda: driver.delete(other),
    }
    before, log = driver.said_ok(), driver.served.log.stat().st_size
    for method, call in calls.items():
        with driver.that(method, f"raise-afterwards {name}"), fails(Code.INTERNAL, name):
            call()
        if method == "extend_volume":
            assert driver.statuses()[other] == "error_extending"
        if method == "delete_snapshot":
            assert driver.statuses("snapshots")[snapshot_id] == "error_deleting"
    assert driver.statuses()[other] == "error_deleting"
    assert driver.said_ok() == before
    lines = driver.served.log.read_bytes()[log:].decode().splitlines()
    said = [line for line in lines if re.search(r"\b(\w+Volume|\w+Snapshot)\b", line) and "code=OK" in line]
    assert not said
    # A repeat does what was not done, and the volume of the creation that seemed to fail is taken back.
    driver.delete_snapshot(snapshot_id)
    driver.delete(other)
    again = driver.create(f"made-{name}")
    driver.delete(volume_id)
    driver.delete(third)
    driver.delete(again)
    wait_until(lambda: driver.served.files() == files, driver.served.files)


@pytest.mark.parametrize("answer", ["number", "text", "list", "object", "long", "huge", "small", "foreign"])
def test_an_answer_that_cannot_be_stored_is_an_error_and_leaves_nothing(driver: Driver, answer: str) -> None:
    files = driver.served.files()
    with driver.that("create_volume", f"answer {answer}"), fails(Code.INTERNAL, "the driver"):
        driver.create(f"odd-{answer}")
    volume_id = driver.create(f"odd-{answer}")
    with driver.that("create_snapshot", f"answer {answer}"):
        if answer == "small":
            driver.delete_snapshot(driver.snapshot(volume_id))  # snapshots have no such field
        else:
            with fails(Code.INTERNAL, "the driver"):
                driver.snapshot(volume_id)
    driver.delete(volume_id)
    wait_until(lambda: driver.served.files() == files, driver.served.files)


@pytest.mark.parametrize("answer", ["none", "number", "text", "list", "no-data", "no-type", "unstorable", "huge-data"])
def test_nonsense_in_place_of_a_connection_leaves_no_export(driver: Driver, answer: str) -> None:
    volume_id = driver.create()
    with driver.that("initialize_connection", f"answer {answer}"), fails(Code.INTERNAL, "the driver"):
        driver.publish(volume_id)
    assert driver.statuses()[volume_id] == "available"
    driver.publish(volume_id)
    driver.unpublish(volume_id)
    driver.delete(volume_id)


@pytest.mark.parametrize("fault", [f"answer {name}" for name in ("none", "number", "text", "bad-pools", "bad-room")])
def test_nonsense_in_place_of_stats_changes_nothing(driver: Driver, fault: str) -> None:
    driver.served.log.write_bytes(b"")
    with driver.that("get_volume_stats", fault):
        driver.delete(driver.create())  # the room is asked for again
        wait_until(lambda: _asked_in_vain(driver), driver.served.log_text)
        driver.delete(driver.create())
        assert driver.controller.GetCapacity(csi_pb2.GetCapacityRequest()).available_capacity > GIB


@pytest.mark.parametrize("name", EXITS)
def test_stats_are_asked_for_again_after_an_exit(driver: Driver, name: str) -> None:
    driver.served.log.write_bytes(b"")
    with driver.that("get_volume_stats", f"raise {name}"):
        driver.delete(driver.create())
        wait_until(lambda: _asked_in_vain(driver), driver.served.log_text)


def _asked_in_vain(driver: Driver) -> bool:
    driver.controller.GetCapacity(csi_pb2.GetCapacityRequest())
    return "cannot be read" in driver.served.log.read_text(errors="replace")


def test_a_call_that_takes_longer_than_its_caller_waits_is_made_once(driver: Driver) -> None:
    with driver.that("create_volume", "wait"):
        with fails(Code.DEADLINE_EXCEEDED):
            driver.create("slow", timeout=1)
        wait_until((driver.faults / "waits").exists, driver.served.log_text)
        driver.served.wait_until_ready()
        with pytest.raises(grpc.RpcError) as caught:
            driver.create("slow", timeout=1)
        assert caught.value.code() in (Code.ABORTED, Code.DEADLINE_EXCEEDED)
        before = driver.served.files()
    volume_id = driver.create("slow")
    assert set(driver.served.files()) - set(before) == {f"volume-{volume_id}"}
    driver.delete(volume_id)


def test_threads_that_a_driver_leaves_behind_do_not_keep_the_process(tmp_path: Path) -> None:
    (tmp_path / "faults").mkdir()
    name = "tests.server.misbehaving_driver.MisbehavingDriver"
    with serving(tmp_path, driver=name, environment={"TEST_FAULTS": str(tmp_path / "faults")}) as served:
        driver = Driver(served, 0)
        with driver.that("create_volume", "leak"):
            for _ in range(5):
                driver.create()
        assert served.stop() == 0
