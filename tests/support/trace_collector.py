"""A collector of OpenTelemetry's traces, for what a server says of its time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.polling import wait_until


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes in spans, as any OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self) -> None:
        self._server.stop(None)

    def find(self, name: str) -> Span | None:
        return next((span for span in self.spans if span.name == name), None)

    def children(self, parent: Span) -> list[str]:
        return [span.name for span in self.spans if span.parent_span_id == parent.span_id]

    def root(self, method: str) -> Span:
        """The span of a CSI call, once it has arrived; those below it arrive before it."""
        wait_until(lambda: self.find(f"csi.v1.{method}"), lambda: ", ".join(span.name for span in self.spans))
        found = self.find(f"csi.v1.{method}")
        assert found is not None
        return found


def attributes(holder: Any) -> dict[str, Any]:
    return {
        pair.key: pair.value.int_value if pair.value.HasField("int_value") else pair.value.string_value
        for pair in holder.attributes
    }
