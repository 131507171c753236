"""The controller behind a real gRPC server on a unix socket, over the loop driver."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.service import ControllerService
from csi_plugin.persistence.base import RecordStore
from csi_plugin.protocol import csi_pb2_grpc, current_rpc, node_registry_pb2_grpc
from csi_plugin.protocol.errors import RpcError
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.backend_configuration import BackendConfiguration
from csi_plugin.storage.backend_set import BackendSet
from tests.controller.plugin import Plugin, Serve
from tests.support.project import LOOP_DRIVER

_numbers = itertools.count(1)


class ErrorsToStatus(grpc.ServerInterceptor):
    """What the server does with deadlines and RpcError."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                with current_rpc.enter("", request_id="", time_remaining=context.time_remaining()):
                    return handler.unary_unary(request, context)
            except RpcError as error:
                context.abort(error.code, error.message)

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


@pytest.fixture(params=["memory", "memory_db"])
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Serve a controller; keyword arguments go to its configuration.

    Every test runs on records in memory and on Cinder's database. A second call with the first one's ``directory``
    serves the same store and storage, as after a restart; ``beside`` is a controller that serves them meanwhile. The
    new one reads and writes its records through ``store``.
    """
    ends: list[Callable[[], Any]] = []

    def start(
        *,
        driver: str = LOOP_DRIVER,
        topology: list[dict[str, str]] | None = None,
        directory: Path | None = None,
        name: str = "loop",
        options: dict[str, Any] | None = None,
        others: Sequence[dict[str, Any]] | None = None,
        wait: bool = True,
        beside: Plugin | None = None,
        store: RecordStore | None = None,
        **configuration: Any,
    ) -> Plugin:
        if not Backend.global_initialization:
            Backend.global_setup(file_locks_path=str(tmp_path / "locks"), root_helper="")
        if directory is None and beside is None:
            Backend.set_persistence({"storage": request.param})
        directory = beside.directory if beside else directory or tmp_path / f"volumes-{next(_numbers)}"
        backends = (
            beside.backends
            if beside
            else BackendSet(
                [
                    BackendConfiguration.from_arguments(**{"strict": True, **arguments})
                    for arguments in (
                        {
                            "volume_backend_name": name,
                            "volume_driver": driver,
                            "loop_volumes_dir": str(directory),
                            "topology": topology or [],
                            **(options or {}),
                        },
                        *(others or ()),
                    )
                ]
            )
        )
        if beside is None:
            ends.append(backends.close)
            backends.start()
            assert not wait or backends.wait_until_ready(30), backends.status()
        service = ControllerService(
            ControllerConfiguration(**configuration), backends, store or Backend.store, InFlight()
        )
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
