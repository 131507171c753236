"""What a controller finds under way that the one before it had told the storage: it leaves that alone for a while."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from csi_plugin.persistence.leases import LeaseTerm
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2
from tests.controller.drivers import GatedDriver
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import fails, in_time
from tests.support.polling import wait_until

FIRST = LeaseTerm(1, holder="first/1")


@pytest.fixture
def first(serve: Serve) -> Iterator[Plugin]:
    GatedDriver.gate, GatedDriver.started = threading.Event(), threading.Event()
    plugin = serve(driver="tests.controller.drivers.GatedDriver")
    plugin.service.recovery.hold(FIRST)
    yield plugin
    GatedDriver.gate.set()


def modified(plugin: Plugin, volume_id: str, value: str, *, timeout: float) -> None:
    request = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume_id, mutable_parameters={"xtra_gated": value})
    plugin.controller.ControllerModifyVolume(request, timeout=timeout)


def test_a_retype_that_was_under_way_is_known_to_the_successor(first: Plugin, serve: Serve) -> None:
    volume_id, other = first.create("pvc-1").volume_id, first.create("pvc-2").volume_id
    with ThreadPoolExecutor(1) as pool:
        pool.submit(modified, first, volume_id, "1", timeout=3)
        assert GatedDriver.started.wait(30)
        second = serve(beside=first, settle_seconds=3600)
        second.service.recovery.hold(LeaseTerm(2, predecessor="first/1", holder="second/1"))
        with fails(grpc.StatusCode.ABORTED, volume_id, "the controller before this one (first)"):
            in_time(lambda timeout: modified(second, volume_id, "2", timeout=timeout))
        second.delete(other)
        second.service.recovery.stop()
        GatedDriver.gate.set()


def test_one_that_dies_before_it_has_looked_leaves_it_to_its_restart(first: Plugin, serve: Serve) -> None:
    volume_id = first.create("pvc-1").volume_id
    with ThreadPoolExecutor(1) as pool:
        pool.submit(modified, first, volume_id, "1", timeout=3)
        assert GatedDriver.started.wait(30)
        # The second took the lease, and was killed. It holds it still when it is started again.
        second = serve(beside=first, settle_seconds=3600)
        second.service.recovery.hold(LeaseTerm(3, holder="second/1"))
        with fails(grpc.StatusCode.ABORTED, volume_id, "the controller before this one (first)"):
            in_time(lambda timeout: second.delete(volume_id, timeout=timeout))
        second.service.recovery.stop()
        GatedDriver.gate.set()


@pytest.mark.parametrize("status", ["extending", "reverting", "managing", "unmanaging"])
def test_what_has_the_status_of_a_call_is_held(first: Plugin, serve: Serve, status: str) -> None:
    volume_id = first.create("pvc-1").volume_id
    record = first.store.get(VolumeRecord, volume_id)
    record.status = status
    first.store.update(record)
    second = serve(beside=first, settle_seconds=3600)
    second.service.recovery.hold(LeaseTerm(2, predecessor="first/1", holder="second/1"))
    with fails(grpc.StatusCode.ABORTED, volume_id, "the controller before this one (first)"):
        in_time(lambda timeout: second.delete(volume_id, timeout=timeout))
    second.service.recovery.stop()


def test_one_that_has_ended_in_order_leaves_nothing_alone(first: Plugin, serve: Serve) -> None:
    volume_id = first.create("pvc-1").volume_id
    first.service.recovery.stop()
    first.service.recovery.release()
    second = serve(beside=first, settle_seconds=3600)
    second.service.recovery.hold(LeaseTerm(2, holder="second/1"))
    second.delete(volume_id)
    wait_until(lambda: second.files() == [], lambda: str(second.files()))
