"""The controller behind a real gRPC server on a unix socket, over the loop driver."""

import base64
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.service import ControllerService
from csi_plugin.persistence.base import RecordStore
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc, node_registry_pb2_grpc, sealed_box
from csi_plugin.protocol.errors import RpcError
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.backend_set import BackendSet

GIB = 1024**3
LOOP = "csi_plugin.storage.drivers.loop.LoopDriver"
Mode = csi_pb2.VolumeCapability.AccessMode
_numbers = itertools.count(1)


class ErrorsToStatus(grpc.ServerInterceptor):
    """What the server does with RpcError."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return handler.unary_unary(request, context)
            except RpcError as error:
                context.abort(error.code, error.message)

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


@dataclass
class Plugin:
    """A served controller and clients of it."""

    service: ControllerService
    backends: BackendSet
    store: RecordStore
    controller: csi_pb2_grpc.ControllerStub
    groups: csi_pb2_grpc.GroupControllerStub
    nodes: node_registry_pb2_grpc.NodeRegistryStub
    directory: Path

    def files(self) -> list[str]:
        """What the loop driver has in its directory."""
        return sorted(path.name for path in self.directory.iterdir())

    def create(self, name: str, size: int = 1, **fields: Any) -> csi_pb2.Volume:
        return self.controller.CreateVolume(create_request(name, size, **fields)).volume

    def snapshot(self, name: str, volume_id: str, **fields: Any) -> csi_pb2.Snapshot:
        request = csi_pb2.CreateSnapshotRequest(name=name, source_volume_id=volume_id, **fields)
        return self.controller.CreateSnapshot(request).snapshot

    def delete(self, volume_id: str) -> None:
        self.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id))

    def publish(self, volume_id: str, node_id: str, **fields: Any) -> dict[str, str]:
        fields.setdefault("volume_capability", mount())
        request = csi_pb2.ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node_id, **fields)
        return dict(self.controller.ControllerPublishVolume(request).publish_context)

    def unpublish(self, volume_id: str, node_id: str = "") -> None:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id=node_id)
        self.controller.ControllerUnpublishVolume(request)

    def add_node(self, node_id: str, *, max_volumes: int = 0, **connector: Any) -> bytes:
        """Register a node; its private key."""
        private_key = sealed_box.generate_private_key()
        self.service.node_registry.register(
            node_id,
            connector={"host": node_id, "ip": "192.0.2.1", **connector},
            public_key=sealed_box.public_key_of(private_key),
            topology={},
            max_volumes=max_volumes,
        )
        return private_key

    def list(self) -> list[str]:
        return [entry.volume.volume_id for entry in self.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries]


def capability(mode: int = Mode.SINGLE_NODE_WRITER, *, block: bool = False) -> csi_pb2.VolumeCapability:
    made = csi_pb2.VolumeCapability(access_mode=Mode(mode=mode))
    (made.block if block else made.mount).SetInParent()
    return made


def mount(mode: int = Mode.SINGLE_NODE_WRITER) -> csi_pb2.VolumeCapability:
    return capability(mode)


def block(mode: int = Mode.SINGLE_NODE_WRITER) -> csi_pb2.VolumeCapability:
    return capability(mode, block=True)


def create_request(name: str, size: int = 1, **fields: Any) -> csi_pb2.CreateVolumeRequest:
    fields.setdefault("volume_capabilities", [mount()])
    fields.setdefault("capacity_range", csi_pb2.CapacityRange(required_bytes=size * GIB))
    return csi_pb2.CreateVolumeRequest(name=name, **fields)


def from_snapshot(snapshot_id: str) -> csi_pb2.VolumeContentSource:
    source = csi_pb2.VolumeContentSource()
    source.snapshot.snapshot_id = snapshot_id
    return source


def from_volume(volume_id: str) -> csi_pb2.VolumeContentSource:
    source = csi_pb2.VolumeContentSource()
    source.volume.volume_id = volume_id
    return source


@contextmanager
def fails(code: grpc.StatusCode, *words: str) -> Iterator[None]:
    """The block's call ends with a status and a message that has all the words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value
    assert error.code() is code, error.details()
    for word in words:
        assert word in error.details()


Serve = Callable[..., Plugin]


@pytest.fixture(params=["memory", "memory_db"])
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Serve a controller; keyword arguments go to its configuration.

    Every test runs on records in memory and on Cinder's database. A second call with the first one's ``directory``
    serves the same store and storage, as after a restart.
    """
    ends: list[Callable[[], Any]] = []

    def start(
        *,
        driver: str = LOOP,
        topology: list[dict[str, str]] | None = None,
        directory: Path | None = None,
        name: str = "loop",
        options: dict[str, Any] | None = None,
        others: Sequence[dict[str, Any]] | None = None,
        wait: bool = True,
        **configuration: Any,
    ) -> Plugin:
        if not Backend.global_initialization:
            Backend.global_setup(file_locks_path=str(tmp_path / "locks"), root_helper="")
        if directory is None:
            Backend.set_persistence({"storage": request.param})
        directory = directory or tmp_path / f"volumes-{next(_numbers)}"
        backends = BackendSet(
            [
                {
                    "volume_backend_name": name,
                    "volume_driver": driver,
                    "loop_volumes_dir": str(directory),
                    "topology": topology or [],
                    **(options or {}),
                },
                *(others or ()),
            ]
        )
        ends.append(backends.close)
        backends.start()
        assert not wait or backends.wait_until_ready(30), backends.status()
        service = ControllerService(ControllerConfiguration(**configuration), backends, Backend.store, InFlight())
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=80), interceptors=[ErrorsToStatus()], maximum_concurrent_rpcs=None
        )
        csi_pb2_grpc.add_ControllerServicer_to_server(service, server)
        csi_pb2_grpc.add_GroupControllerServicer_to_server(service.group_controller, server)
        node_registry_pb2_grpc.add_NodeRegistryServicer_to_server(service.node_registry, server)
        address = f"unix:{tmp_path}/{next(_numbers)}.sock"
        server.add_insecure_port(address)
        server.start()
        channel = grpc.insecure_channel(address)
        ends.extend([channel.close, lambda: server.stop(0).wait()])
        return Plugin(
            service=service,
            backends=backends,
            store=Backend.store,
            controller=csi_pb2_grpc.ControllerStub(channel),
            groups=csi_pb2_grpc.GroupControllerStub(channel),
            nodes=node_registry_pb2_grpc.NodeRegistryStub(channel),
            directory=directory,
        )

    yield start
    for end in reversed(ends):
        end()


@pytest.fixture
def plugin(serve: Serve) -> Plugin:
    return serve()


def in_threads(count: int, action: Callable[[int], Any]) -> list[Any]:
    """Run ``action`` in that many threads at once; results or errors in order."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return action(number)
        except grpc.RpcError as error:
            return error

    with futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def unsealed(context: dict[str, str], private_key: bytes, *, node_id: str, volume_id: str) -> bytes:
    return sealed_box.open_from_controller(
        private_key, base64.b64decode(context["connection"]), context=f"{node_id}/{volume_id}".encode()
    )
