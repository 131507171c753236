"""Spans for OpenTelemetry: one for each RPC, and below it one for each thing that its time goes to.

Tracing is on when the standard variables name a collector (``OTEL_EXPORTER_OTLP_ENDPOINT``, or the one for traces
alone). Otherwise nothing of OpenTelemetry is imported, and a span is no more than a step
(``csi_plugin.instrumentation.steps``), by which people see where an operation is. No attribute is ever an argument of a
driver or a program, and no error's text is recorded but what the caller is told: both may hold secrets.
"""

import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

from csi_plugin.instrumentation.steps import Step

P = ParamSpec("P")
T = TypeVar("T")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_COUNTED = ("_TIMEOUT", "_SIZE", "_DELAY", "_LIMIT")
"""Ends of the names of variables that have numbers."""
_LAST_SPANS_SECONDS = 2.0

_provider: Any = None
_tracer: Any = None
_NOTHING = nullcontext()


class TracingUnavailable(ValueError):
    """Tracing is asked for and cannot be had; the message says why."""


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the variables ask for it; OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none turn it off."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _ENDPOINTS)


def start(*, service: str, version: str, instance: str) -> None:
    """Send spans from now on, over OTLP's gRPC. The names are those of the resource, unless the variables set others.

    Raises TracingUnavailable when the extra ``otel`` is not installed, or a variable cannot be used.
    """
    global _provider, _tracer
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable(
            f"{' or '.join(_ENDPOINTS)} is set, but the extra otel of this package is not installed ({error})"
        ) from error
    named = {"service.name": service, "service.version": version, "service.instance.id": instance}
    try:
        resource = Resource.create(named).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception as error:
        # Of any class, and some say what is wrong without the variable that says so.
        raise TracingUnavailable(f"{', '.join(_suspects(str(error)))}: {error}") from error
    _provider, _tracer = provider, provider.get_tracer("cinderbox", version)


def _suspects(error: str) -> list[str]:
    """The variables that an error is about: those that it names, those that are no numbers above 0 and should be, or
    all that are set."""
    given = sorted(name for name in os.environ if name.startswith("OTEL_"))
    named = [name for name in given if name in error]
    return named or [name for name in given if name.endswith(_COUNTED) and not _is_count(os.environ[name])] or given


def _is_count(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def stop() -> None:
    """Send what is left, if the collector takes it soon."""
    global _provider, _tracer
    if _provider is not None:
        _provider.force_flush(timeout_millis=int(_LAST_SPANS_SECONDS * 1000))
        _provider = _tracer = None


def rpc(method: str, metadata: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """The span of an RPC (``/package.Service/Method``), a child of the caller's if its metadata tell of one."""
    return _NOTHING if _tracer is None else _rpc(method, metadata)


def rpc_ended(code: tuple[int, str], message: str, attributes: Mapping[str, str]) -> None:
    """Note the gRPC status (number and name) of the RPC whose span is the present one, and what it was about."""
    if _tracer is None:
        return
    from opentelemetry import trace

    span = trace.get_current_span()
    number, name = code
    span.set_attributes({"rpc.grpc.status_code": number, **{f"csi.{key}": value for key, value in attributes.items()}})
    if number:
        span.set_status(trace.StatusCode.ERROR, f"{name}: {message}")


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """A step of what runs in this thread, and a span if that is an RPC. Of an error, the span has the type."""
    step = Step(name, attributes)
    return step if _tracer is None else _span(step)


def traced(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: each call is a span."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with span(name):
                return function(*args, **kwargs)

        return call

    return decorate


def traced_methods(
    target: T,
    prefix: str,
    *,
    before: Callable[[], None] | None = None,
    parts: Collection[str] = (),
    **attributes: str,
) -> T:
    """A stand-in for ``target`` by which every call of a method is a span: ``prefix`` and its name.

    It has the target's ``__class__``, and what is set on it is set on the target; only ``type()`` tells them apart.
    ``before`` is called right before each call, and may raise. What the target has under one of the names ``parts``
    gets a stand-in, too.
    """
    return _Traced(target, prefix, before, frozenset(parts), attributes)  # type: ignore[return-value]


def before_call(target: Any) -> None:
    """What a stand-in does right before each call, for calls past it; nothing for all else."""
    if type(target) is _Traced and target._before is not None:
        target._before()


class _Traced:
    _target: Any
    _prefix: str
    _before: Callable[[], None] | None
    _parts: frozenset[str]
    _attributes: Mapping[str, str]

    def __init__(
        self,
        target: Any,
        prefix: str,
        before: Callable[[], None] | None,
        parts: frozenset[str],
        attributes: Mapping[str, str],
    ) -> None:
        self.__dict__.update(_target=target, _prefix=prefix, _before=before, _parts=parts, _attributes=attributes)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        found: type = self._target.__class__
        return found

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name in self._parts and found is not None:
            return _Traced(found, f"{self._prefix}{name}.", self._before, frozenset(), self._attributes)
        if not callable(found):
            return found

        @functools.wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            with span(f"{self._prefix}{name}", **self._attributes):
                if self._before is not None:
                    self._before()
                return found(*args, **kwargs)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._target, name)


@contextmanager
def _rpc(method: str, metadata: Mapping[str, Any]) -> Iterator[None]:
    from opentelemetry import propagate, trace

    service, _, name = method.removeprefix("/").rpartition("/")
    with _tracer.start_as_current_span(
        f"{service}/{name}",
        context=propagate.extract(metadata),
        kind=trace.SpanKind.SERVER,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        record_exception=False,
        set_status_on_exception=False,
    ):
        yield


@contextmanager
def _span(step: Step) -> Iterator[None]:
    from opentelemetry import trace

    with step:
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        with _tracer.start_as_current_span(
            step.name, attributes=step.attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise
