"""Cinder's SolidFire driver in this process's children, over HTTPS to an array that others use at the same time.

The driver needs no vendor's library. It stands for all those that manage their array by HTTP: its own requests, retries
and locks run in real threads here, many at once.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2, node_registry_pb2, node_registry_pb2_grpc, sealed_box
from tests.arrays.solidfire_array import LOGIN, PASSWORD, Faults, SolidFireArray
from tests.controller.plugin import unsealed
from tests.support.csi import GIB, block, create_request, from_snapshot, from_volume
from tests.support.polling import wait_until
from tests.support.serving import Served

DRIVER = "cinder.volume.drivers.solidfire.SolidFireDriver"
IQN = "iqn.2016-04.com.open-iscsi:node-1"
AT_ONCE = 20
QOS = {"minIOPS": 200, "maxIOPS": 900, "burstIOPS": 1000}
T = TypeVar("T")


@pytest.fixture
def array(tmp_path: Path) -> Iterator[SolidFireArray]:
    with SolidFireArray(tmp_path) as running:
        yield running


def options(array: SolidFireArray) -> dict[str, Any]:
    return {
        "san_ip": array.address,
        "sf_api_port": array.port,
        "san_login": LOGIN,
        "san_password": PASSWORD,
        "sf_enable_vag": True,
    }


@pytest.fixture
def served(array: SolidFireArray, tmp_path: Path) -> Iterator[Served]:
    with closing(
        Served(
            tmp_path,
            mode="controller",
            driver=DRIVER,
            backend={"name": "solidfire", "loop_volumes_dir": None, **options(array)},
            environment={"CINDERBOX_SEALING_KEYS": generate_key()},
        )
    ) as server:
        yield server.start()


class Orchestrator:
    """A CO that repeats each call until it succeeds; what it was told in between is in ``errors``."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.errors: list[grpc.RpcError] = []
        self.key = sealed_box.generate_private_key()

    def register_node(self) -> None:
        connector = {"host": "node-1", "ip": "192.0.2.1", "initiator": IQN, "multipath": False}
        request = node_registry_pb2.RegisterNodeRequest(
            node_id="node-1", connector_json=json.dumps(connector), public_key=sealed_box.public_key_of(self.key)
        )
        registry = node_registry_pb2_grpc.NodeRegistryStub(self.served.channel)
        self.repeat(lambda: registry.RegisterNode(request, timeout=30))

    def repeat(self, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + 60
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise
                self.errors.append(error)
            time.sleep(0.2)  # as COs do before they repeat a call

    def create(self, name: str, size: int = 1, **fields: Any) -> csi_pb2.Volume:
        request = create_request(name, size, **{"volume_capabilities": [block()], **fields})
        return self.repeat(lambda: self.served.controller.CreateVolume(request, timeout=90)).volume

    def snapshot(self, name: str, volume_id: str) -> csi_pb2.Snapshot:
        request = csi_pb2.CreateSnapshotRequest(name=name, source_volume_id=volume_id)
        return self.repeat(lambda: self.served.controller.CreateSnapshot(request, timeout=90)).snapshot

    def publish(self, volume_id: str) -> dict[str, str]:
        request = csi_pb2.ControllerPublishVolumeRequest(
            volume_id=volume_id, node_id="node-1", volume_capability=block()
        )
        answer = self.repeat(lambda: self.served.controller.ControllerPublishVolume(request, timeout=90))
        return dict(answer.publish_context)

    def expand(self, volume_id: str, size: int) -> int:
        request = csi_pb2.ControllerExpandVolumeRequest(
            volume_id=volume_id, capacity_range=csi_pb2.CapacityRange(required_bytes=size * GIB)
        )
        return self.repeat(lambda: self.served.controller.ControllerExpandVolume(request, timeout=90)).capacity_bytes

    def unpublish(self, volume_id: str) -> None:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id="node-1")
        self.repeat(lambda: self.served.controller.ControllerUnpublishVolume(request, timeout=90))

    def delete_snapshot(self, snapshot_id: str) -> None:
        request = csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id)
        self.repeat(lambda: self.served.controller.DeleteSnapshot(request, timeout=90))

    def delete(self, volume_id: str) -> None:
        request = csi_pb2.DeleteVolumeRequest(volume_id=volume_id)
        self.repeat(lambda: self.served.controller.DeleteVolume(request, timeout=90))


@pytest.fixture
def orchestrator(served: Served) -> Orchestrator:
    made = Orchestrator(served)
    made.register_node()
    return made


def names(*volumes: csi_pb2.Volume) -> list[str]:
    return sorted(f"UUID-{volume.volume_id}" for volume in volumes)


def test_a_volumes_life(array: SolidFireArray, orchestrator: Orchestrator) -> None:
    volume = orchestrator.create("pvc-1", parameters={f"qos.{name}": str(value) for name, value in QOS.items()})
    assert (array.volume(volume.volume_id)["totalSize"], array.volume(volume.volume_id)["qos"]) == (GIB, QOS)

    context = orchestrator.publish(volume.volume_id)
    plan = json.loads(unsealed(context, orchestrator.key, node_id="node-1", volume_id=volume.volume_id))
    stored = array.volume(volume.volume_id)
    assert (plan["driver_volume_type"], plan["data"]["target_iqn"]) == ("iscsi", stored["iqn"])
    assert plan["data"]["target_portal"] == "192.0.2.20:3260"
    assert {plan["data"]["auth_password"]} == array.secrets()
    assert array.attached() == {IQN: [stored["volumeID"]]}

    snapshot = orchestrator.snapshot("snapshot-1", volume.volume_id)
    assert [found["name"] for found in array.snapshots.values()] == [f"UUID-{snapshot.snapshot_id}"]
    restored = orchestrator.create("pvc-2", 2, volume_content_source=from_snapshot(snapshot.snapshot_id))
    clone = orchestrator.create("pvc-3", 1, volume_content_source=from_volume(volume.volume_id))
    assert array.active() == names(volume, restored, clone)
    assert array.volume(restored.volume_id)["totalSize"] == 2 * GIB

    assert orchestrator.expand(volume.volume_id, 3) == 3 * GIB
    assert array.volume(volume.volume_id)["totalSize"] == 3 * GIB

    orchestrator.unpublish(volume.volume_id)
    assert array.attached() == {}
    orchestrator.delete_snapshot(snapshot.snapshot_id)
    for each in (volume, restored, clone):
        orchestrator.delete(each.volume_id)
    assert (array.volumes, array.snapshots) == ({}, {})
    assert orchestrator.errors == []


def test_no_secret_is_stored_or_logged_in_clear(
    array: SolidFireArray, served: Served, orchestrator: Orchestrator
) -> None:
    volume = orchestrator.create("pvc-1")
    context = orchestrator.publish(volume.volume_id)
    (chap,) = array.secrets()

    public = json.dumps(context) + str(volume) + str(served.controller.ListVolumes(csi_pb2.ListVolumesRequest()))
    databases = b"".join(path.read_bytes() for path in served.folder.glob("metadata.sqlite*"))
    log = served.log.read_text()
    assert volume.volume_id.encode() in databases
    assert "'passwd': ***" in log, "the driver logs how it reaches the array"
    for secret in (PASSWORD, chap):
        assert secret not in public
        assert secret not in log
        assert secret.encode() not in databases


@pytest.mark.timeout(300)
def test_twenty_at_once_while_the_array_is_busy_drops_connections_and_is_away(
    array: SolidFireArray, served: Served, orchestrator: Orchestrator
) -> None:
    orchestrator.delete(orchestrator.create("the-account").volume_id)  # the driver makes its account without a lock
    for method in ("CreateVolume", "CreateSnapshot"):
        array.gather[method] = threading.Barrier(AT_ONCE)
    array.faults = Faults(busy=31, unavailable=67, dropped=43)

    def life(number: int) -> None:
        volume = orchestrator.create(f"pvc-{number}")
        array.gather.pop("CreateVolume", None)
        orchestrator.publish(volume.volume_id)
        snapshot = orchestrator.snapshot(f"snapshot-{number}", volume.volume_id)
        array.gather.pop("CreateSnapshot", None)
        assert orchestrator.expand(volume.volume_id, 2) == 2 * GIB
        orchestrator.delete_snapshot(snapshot.snapshot_id)
        orchestrator.unpublish(volume.volume_id)
        orchestrator.delete(volume.volume_id)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(life, range(AT_ONCE)))

    assert array.most_at_once["CreateVolume"] >= AT_ONCE
    assert all(array.injected[fault] for fault in ("busy", "unavailable", "dropped")), array.injected
    # A volume waits for what a failed try may have left of its snapshot, until the array must have come to rest.
    wait_until(lambda: (array.active(), array.snapshots) == ([], {}), served.log_text, timeout=60)
    assert not any(array.attached().values())  # the group itself stays when its last two volumes leave together
    # Busy and dropped requests are the driver's to repeat; what it does not repeat, the CO does. It may come too early,
    # and is told ABORTED then.
    told = [error.code() for error in orchestrator.errors]
    assert len(told) - told.count(grpc.StatusCode.ABORTED) <= array.injected["unavailable"]


STEPS: dict[str, Callable[[Orchestrator, str], Any]] = {
    "CreateVolume": lambda co, _: co.create("made").volume_id,
    "CloneVolume": lambda co, source: co.create("made", volume_content_source=from_volume(source)).volume_id,
    "ModifyVolume": lambda co, source: co.expand(source, 2),
    "AddVolumesToVolumeAccessGroup": lambda co, source: co.publish(source),
    "DeleteVolume": lambda co, source: co.delete(source),
    "CreateSnapshot": lambda co, source: co.snapshot("made", source).snapshot_id,
}
"""A request to the array, and the call that leads to it."""


def killed_in(method: str, served: Served, array: SolidFireArray, source: str, *, done_first: bool) -> Orchestrator:
    """Kill the controller while the array works on a request, before or after that took effect; the CO afterwards."""
    hold = array.hold(method, done_first=done_first)
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(STEPS[method], Orchestrator(served), source)
        assert hold.reached.wait(60)
        served.kill()
        hold.released.set()
        assert step.exception(60) is not None
    again = Orchestrator(served.start())
    again.register_node()
    return again


@pytest.mark.parametrize(
    ("method", "done_first"), [("CreateVolume", False), *((name, True) for name in STEPS if name != "CreateSnapshot")]
)
def test_a_controller_that_is_killed_while_the_array_works_recovers(
    array: SolidFireArray, served: Served, orchestrator: Orchestrator, method: str, done_first: bool
) -> None:
    source = orchestrator.create("source").volume_id
    orchestrator.publish(orchestrator.create("other").volume_id)  # so that the access group is there
    again = killed_in(method, served, array, source, done_first=done_first)

    answer = STEPS[method](again, source)

    if method in ("CreateVolume", "CloneVolume"):
        assert array.active().count(f"UUID-{answer}") == 1
        again.delete(answer)
        assert f"UUID-{answer}" not in array.active()
    elif method == "ModifyVolume":
        assert array.volume(source)["totalSize"] == 2 * GIB
    elif method == "AddVolumesToVolumeAccessGroup":
        assert array.volume(source)["volumeID"] in array.attached()[IQN]
        again.unpublish(source)
        assert array.volume(source)["volumeID"] not in array.attached()[IQN]
    again.delete(source)
    assert f"UUID-{source}" not in array.active()


def test_what_a_killed_try_left_is_held_for_a_person_where_the_driver_cannot_list_it(
    array: SolidFireArray, served: Served, orchestrator: Orchestrator
) -> None:
    """The driver has no list of manageable snapshots, so nobody can say whether one is there: its volume stays."""
    source = orchestrator.create("source").volume_id
    again = killed_in("CreateSnapshot", served, array, source, done_first=True)
    snapshot = STEPS["CreateSnapshot"](again, source)
    left, made = (found["name"].removeprefix("UUID-") for found in array.snapshots.values())
    assert made == snapshot

    again.delete_snapshot(snapshot)
    again.delete(source)
    listed = json.loads(served.command("volumes", "leftovers", "--output", "json"))
    assert {found["id"] for found in listed} == {left, source}
    assert array.active() == [f"UUID-{source}"]

    served.command("volumes", "forget", left, "--yes")
    served.kill()
    served.start()
    wait_until(lambda: array.active() == [], lambda: served.command("volumes", "leftovers"))
    assert array.snapshots == {}


def test_an_array_out_of_reach_is_named_and_comes_back(array: SolidFireArray, served: Served) -> None:
    served.kill()
    array.faults = Faults(unavailable=1)
    served.start(wait=False)
    wait_until(lambda: "backend solidfire cannot be started" in served.log.read_text(), served.log_text)
    assert not served.is_ready()
    array.faults = Faults()
    served.wait_until_ready()


def test_the_library(array: SolidFireArray, tmp_path: Path) -> None:
    import csi_plugin as cl

    cl.setup(file_locks_path=str(tmp_path / "locks"), disable_logs=True)
    backend = cl.Backend(volume_backend_name="solidfire", volume_driver=DRIVER, strict=True, **options(array))
    try:
        volume = backend.create_volume(size=1, name="library")
        connection = volume.connect({"host": "node-1", "ip": "192.0.2.1", "initiator": IQN, "multipath": False})
        assert {connection.conn_info["data"]["auth_password"]} == array.secrets()
        assert array.attached() == {IQN: [array.volume(volume.id)["volumeID"]]}
        snapshot = volume.create_snapshot("snapshot")
        restored = snapshot.create_volume()
        clone = volume.clone()
        volume.extend(2)
        assert array.volume(volume.id)["totalSize"] == 2 * GIB
        assert array.active() == sorted(f"UUID-{each.id}" for each in (volume, restored, clone))
        connection.disconnect()
        assert array.attached() == {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            many = list(pool.map(lambda number: backend.create_volume(size=1, name=str(number)), range(AT_ONCE)))
            list(pool.map(lambda each: each.delete(), many))
        snapshot.delete()
        for each in (volume, restored, clone):
            each.delete()
        assert (array.volumes, array.snapshots) == ({}, {})
    finally:
        backend.close()
