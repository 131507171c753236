"""What happens around every RPC: a request id, one log line, a span, statuses for errors, a thread pool by kind."""

import logging
import time
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message

from csi_plugin.instrumentation import tracing
from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import RpcError
from csi_plugin.secrets_in_text import FIELD_LIMIT, MESSAGE_LIMIT, redact_text
from csi_plugin.server.redaction import keep_secrets_of, redact_message

LOG = structlog.stdlib.get_logger(__name__)

REQUEST_ID_KEY = "x-request-id"

READS = frozenset(
    {
        "GetPluginInfo",
        "GetPluginCapabilities",
        "Probe",
        "ValidateVolumeCapabilities",
        "ListVolumes",
        "ListSnapshots",
        "GetSnapshot",
        "GetCapacity",
        "ControllerGetVolume",
        "ControllerGetCapabilities",
        "ControllerGetVolumeHealth",
        "ControllerListVolumeHealth",
        "GroupControllerGetCapabilities",
        "GetVolumeGroupSnapshot",
        "NodeGetCapabilities",
        "NodeGetInfo",
        "Check",
        "GetConnection",
        "ListOperations",
    }
)
"""RPCs that never wait for storage; they have a thread pool of their own, which storage cannot exhaust."""

# What tells an operation apart from another, in the order of the line.
_IDENTIFYING = ("name", "volume_id", "source_volume_id", "snapshot_id", "group_snapshot_id", "node_id", "target_path")


class RpcInterceptor(grpc.ServerInterceptor):
    """Wraps every unary RPC. ``quiet``: names of RPCs that are not traced, and logged at debug level when they succeed;
    ``observe`` is told the method, the name of the status and the seconds of every call.
    """

    def __init__(
        self,
        reads: ThreadPoolExecutor,
        *,
        quiet: Collection[str] = ("Probe", "Check"),
        observe: Callable[[str, str, float], None] = lambda method, code, seconds: None,
    ) -> None:
        self._reads = reads
        self._observe = observe
        self._quiet = frozenset(quiet)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = details.method.rpartition("/")[2]

        def call(request: Message, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            # What is asked every few seconds would be most of all traces, and says nothing.
            with nullcontext() if method in self._quiet else tracing.rpc(details.method, metadata):
                return self._run(handler.unary_unary, method, request, context, metadata)

        if method in READS:
            # gRPC runs a behaviour that has this attribute in that pool instead of the server's.
            call.experimental_thread_pool = self._reads  # type: ignore[attr-defined]
        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)

    def _run(
        self,
        behaviour: Callable[[Any, Any], Any],
        method: str,
        request: Message,
        context: grpc.ServicerContext,
        metadata: dict[str, Any],
    ) -> Any:
        answer: Any = None
        request_id = _shown(metadata.get(REQUEST_ID_KEY)) or uuid.uuid4().hex[:16]
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.monotonic()
        code, message = grpc.StatusCode.OK, ""
        keep_secrets_of(request)
        if LOG.isEnabledFor(logging.DEBUG):
            LOG.debug("request", method=method, request=redact_message(request))
        try:
            with current_rpc.enter(method, request_id=request_id, time_remaining=context.time_remaining()):
                answer = behaviour(request, context)
        except RpcError as error:
            code, message = error.code, redact_text(error.message, limit=MESSAGE_LIMIT)
        except Exception as error:
            # The last boundary: nothing that a request causes may get further, and the caller learns no internals.
            LOG.exception("unexpected error", method=method)
            code, message = grpc.StatusCode.INTERNAL, f"unexpected {type(error).__name__}; the driver's log has more"
        finally:
            seconds = time.monotonic() - began
            identifying = {name: value for name in _IDENTIFYING if (value := _shown(getattr(request, name, "")))}
            self._log(method, identifying, code, message, seconds)
            tracing.rpc_ended((code.value[0], code.name), message, identifying)
            self._observe(method, code.name, seconds)
            structlog.contextvars.clear_contextvars()
        if code is not grpc.StatusCode.OK:
            context.abort(code, message)
        return answer

    def _log(
        self, method: str, identifying: dict[str, str], code: grpc.StatusCode, message: str, seconds: float
    ) -> None:
        details: dict[str, Any] = {"code": code.name, "seconds": round(seconds, 4), **identifying}
        if message:
            details["message"] = message
        if code is grpc.StatusCode.INTERNAL:
            LOG.error(method, **details)
        elif code is not grpc.StatusCode.OK:
            LOG.warning(method, **details)
        else:
            (LOG.debug if method in self._quiet else LOG.info)(method, **details)


def _shown(value: Any) -> str:
    """A value of a request as logs and traces have it: bounded, since whoever sends it chooses its length."""
    return redact_text(str(value), limit=FIELD_LIMIT) if value else ""
