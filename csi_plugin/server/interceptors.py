"""What happens around every RPC: a request id, one log line, a span, statuses for errors, a thread pool by method."""

import logging
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from csi_plugin.instrumentation import tracing
from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import RpcError, invalid_argument
from csi_plugin.secrets_in_text import FIELD_LIMIT, MESSAGE_LIMIT, redact_text
from csi_plugin.server.redaction import keep_secrets_of, redact_message
from csi_plugin.server.thread_pools import ThreadPools

LOG = structlog.stdlib.get_logger(__name__)

REQUEST_ID_KEY = "x-request-id"

# What tells an operation apart from another, in the order of the line.
_IDENTIFYING = ("name", "volume_id", "source_volume_id", "snapshot_id", "group_snapshot_id", "node_id", "target_path")


_KINDS: dict[str, Callable[..., Any]] = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


class _Unreadable:
    """In place of a request whose bytes are no message of its type."""


class RpcInterceptor(grpc.ServerInterceptor):
    """Wraps every RPC; of streams, it says only where they run.

    ``quiet``: names of RPCs that are not traced, and logged at debug level when they succeed; ``observe`` is told the
    method, the name of the status and the seconds of every call.
    """

    def __init__(
        self,
        pools: ThreadPools,
        *,
        quiet: Collection[str] = ("Probe", "Check"),
        observe: Callable[[str, str, float], None] = lambda method, code, seconds: None,
    ) -> None:
        self._pools = pools
        self._observe = observe
        self._quiet = frozenset(quiet)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
        method = details.method.rpartition("/")[2]
        pool = self._pools.of(method, is_stream=kind != "unary_unary")
        deserialize = _reading(handler.request_deserializer) if kind == "unary_unary" else handler.request_deserializer
        if pool.is_full:
            call = self._refusal(method, pool.most)
        else:
            call = self._call(details.method, handler) if kind == "unary_unary" else _plain(getattr(handler, kind))
            # gRPC runs a behaviour that has this attribute in that pool instead of the server's.
            call.experimental_thread_pool = pool
        return _KINDS[kind](call, deserialize, handler.response_serializer)

    def _call(self, path: str, handler: Any) -> Any:
        method = path.rpartition("/")[2]

        def call(request: Message, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            # What is asked every few seconds would be most of all traces, and says nothing.
            with nullcontext() if method in self._quiet else tracing.rpc(path, metadata):
                return self._run(handler.unary_unary, method, request, context, metadata)

        return call

    def _refusal(self, method: str, most: int) -> Any:
        def refuse(request: Any, context: grpc.ServicerContext) -> Any:
            self._observe(method, grpc.StatusCode.UNAVAILABLE.name, 0.0)
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{most} calls of {method} run or wait already; retry later")

        refuse.experimental_thread_pool = self._pools.refusals  # type: ignore[attr-defined]
        return refuse

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
        try:
            if isinstance(request, _Unreadable):
                raise invalid_argument(f"the request is not the message that {method} takes")
            keep_secrets_of(request)
            if LOG.isEnabledFor(logging.DEBUG):
                LOG.debug("request", method=method, request=redact_message(request))
            with current_rpc.enter(method, request_id=request_id, time_remaining=context.time_remaining()):
                answer = behaviour(request, context)
        except RpcError as error:
            code, message = error.code, redact_text(error.message, limit=MESSAGE_LIMIT)
        except BaseException as error:
            # The last boundary: nothing that a request causes may get further, and the caller learns no internals. What
            # ends threads and processes is no different here: this one has an answer to give.
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


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """gRPC makes INTERNAL, and a traceback in the log, of what a deserializer raises."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return read


def _plain(behaviour: Callable[[Any, Any], Any]) -> Any:
    """A function that can be given an attribute: bound methods cannot."""

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        return behaviour(request, context)

    return call
