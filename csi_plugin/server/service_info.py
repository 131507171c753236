"""gRPC's own services: health, which probes of orchestrators call, and reflection, for tools such as grpcurl."""

from collections.abc import Callable, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from csi_plugin.protocol.errors import RpcError, not_found


class HealthService(health_pb2_grpc.HealthServicer):
    """grpc.health.v1: the whole server ("") and each of its services serve when Probe says ready."""

    def __init__(self, names: Iterable[str], is_ready: Callable[[], bool]) -> None:
        self._names = {"", *names}
        self._is_ready = is_ready

    def Check(self, request: Any, context: Any) -> Any:
        if request.service not in self._names:
            raise not_found(f"service: {request.service!r} is not served here")
        try:
            ready = self._is_ready()
        except RpcError:
            ready = False
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if ready else status.NOT_SERVING)


def register(server: grpc.Server, names: Iterable[str], *, is_ready: Callable[[], bool]) -> None:
    """Add health and reflection for the services of these full names."""
    names = list(names)
    health_pb2_grpc.add_HealthServicer_to_server(HealthService(names, is_ready), server)
    own = (health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection((*names, *own), server)
