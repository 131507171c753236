"""Whatever many callers wait for, others are answered."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_reflection.v1alpha import reflection_pb2_grpc

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
from csi_plugin.protocol.errors import RpcError
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.server import service_info, sockets
from csi_plugin.server.identity import IdentityService
from tests.support.csi import fails
from tests.support.polling import wait_until

Code = grpc.StatusCode


class Stuck(csi_pb2_grpc.ControllerServicer):
    """Lists and creations that end when ``gate`` is open; everything else is answered at once."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def ListVolumes(self, request: Any, context: Any) -> Any:
        self.gate.wait(60)
        return csi_pb2.ListVolumesResponse()

    def CreateVolume(self, request: Any, context: Any) -> Any:
        self.gate.wait(60)
        return csi_pb2.CreateVolumeResponse()

    def DeleteVolume(self, request: Any, context: Any) -> Any:
        return csi_pb2.DeleteVolumeResponse()

    def GetCapacity(self, request: Any, context: Any) -> Any:
        return csi_pb2.GetCapacityResponse()


@pytest.fixture(autouse=True)
def logging_as_the_servers() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.stdlib.BoundLogger, logger_factory=structlog.stdlib.LoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    servicer = Stuck()
    yield servicer
    servicer.gate.set()


@pytest.fixture
def channel(stuck: Stuck) -> Iterator[grpc.Channel]:
    with tempfile.TemporaryDirectory(prefix="cbx-") as folder:
        server = sockets.new_server(workers=200, observe=lambda method, code, seconds: None)
        identity = IdentityService("driver", offers=frozenset, is_ready=lambda: True)
        csi_pb2_grpc.add_IdentityServicer_to_server(identity, server)
        csi_pb2_grpc.add_ControllerServicer_to_server(stuck, server)
        service_info.register(server, ["csi.v1.Identity"], is_ready=identity.is_ready)
        sockets.listen(server, f"unix://{Path(folder) / 'csi.sock'}")
        server.start()
        with grpc.insecure_channel(f"unix://{folder}/csi.sock") as channel:
            yield channel
        stuck.gate.set()
        server.stop(0).wait()


def assert_answers(channel: grpc.Channel, *calls: str) -> None:
    controller = csi_pb2_grpc.ControllerStub(channel)
    csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest(), timeout=30)
    for name in calls:
        getattr(controller, name)(getattr(csi_pb2, f"{name}Request")(), timeout=30)


def refusals(futures: list[Any], count: int) -> list[Any]:
    """The futures that have been refused, once there are as many."""
    wait_until(lambda: sum(future.done() for future in futures) == count, lambda: [f.done() for f in futures])
    return [future for future in futures if future.done()]


@pytest.mark.parametrize(
    ("method", "others", "most"),
    [("ListVolumes", ["GetCapacity", "DeleteVolume"], 32), ("CreateVolume", ["GetCapacity", "DeleteVolume"], 150)],
)
def test_many_calls_of_one_method(
    channel: grpc.Channel, stuck: Stuck, method: str, others: list[str], most: int
) -> None:
    call = getattr(csi_pb2_grpc.ControllerStub(channel), method)
    futures = [call.future(getattr(csi_pb2, f"{method}Request")(), timeout=120) for _ in range(most + 50)]

    refused = refusals(futures, 50)
    assert {future.code() for future in refused} == {Code.UNAVAILABLE}
    assert f"{most} calls of {method}" in refused[0].details()
    assert_answers(channel, *others)

    stuck.gate.set()
    for future in futures:
        if future not in refused:
            future.result()
    call(getattr(csi_pb2, f"{method}Request")(), timeout=30)


def test_streams_that_stay_open(channel: grpc.Channel) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    end = threading.Event()

    def nothing() -> Iterator[Any]:
        end.wait(60)
        yield from ()

    with ExitStack() as stack:
        stack.callback(end.set)
        streams = [reflection.ServerReflectionInfo(nothing()) for _ in range(20)]
        for stream in streams:
            stack.callback(stream.cancel)
        wait_until(lambda: sum(not stream.is_active() for stream in streams) == 16, lambda: len(streams))
        assert_answers(channel, "GetCapacity", "DeleteVolume")


def test_repeats_that_wait_are_bounded() -> None:
    inflight, gate = InFlight(), threading.Event()
    running = threading.Thread(target=lambda: inflight.run("volume/1", "a", lambda: gate.wait(60), wait_seconds=None))
    running.start()
    wait_until(inflight.running, lambda: None)
    repeats = [
        threading.Thread(target=lambda: inflight.run("volume/1", "a", lambda: True, wait_seconds=None))
        for _ in range(100)
    ]
    for repeat in repeats:
        repeat.start()
    try:
        wait_until(lambda: inflight.running()[0].waiting == 100, lambda: inflight.running())
        with pytest.raises(RpcError, match="100 calls wait already") as caught:
            inflight.run("volume/1", "a", lambda: True, wait_seconds=None)
        assert caught.value.code is Code.ABORTED
    finally:
        gate.set()
        for thread in (running, *repeats):
            thread.join()


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_request(channel: grpc.Channel, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    call = channel.unary_unary("/csi.v1.Controller/DeleteVolume")
    with fails(Code.INVALID_ARGUMENT, "DeleteVolume"):
        call(data, timeout=30)
    assert not [record for record in caplog.records if record.exc_info]
