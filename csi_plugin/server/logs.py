"""Logs: one line per event, JSON or for humans, from our code and from every library alike, without secrets."""

import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal

if "rich" not in sys.modules:
    # structlog would load it for tracebacks in colour, four MiB that a server has no use for.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]
else:
    import structlog

from csi_plugin.printable import printable
from csi_plugin.server.redaction import redact

LOG = logging.getLogger(__name__)

# Chatty at debug level, and about nothing that concerns storage.
_QUIET = ("asyncio", "stevedore", "alembic", "urllib3.connectionpool", "sqlalchemy.engine", "oslo_db")


def configure(*, log_format: Literal["json", "console"], level: str) -> None:
    """Send the process's logs to standard error. Replaces what was configured before."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_secrets,
            *([_printable] if log_format == "console" else []),  # JSON escapes by itself
            renderer,
        ],
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    _log_uncaught_errors()


class _Handler(logging.StreamHandler[Any]):
    """Python's own prints the arguments of a line that cannot be written, whatever they hold."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if isinstance(error, OSError | RecursionError) or self.stream is None:
            return  # nobody reads, or the disk is full
        place = f"{record.pathname}:{record.lineno}"
        told = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        text = f"a line of {place} cannot be written ({type(error).__name__}), so here it is without its values: {told}"
        substitute = logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, text, None, None)
        try:
            self.stream.write(self.format(substitute) + self.terminator)
            self.flush()
        except Exception:  # noqa: BLE001 - what is left to do would be to print it
            pass


def _log_uncaught_errors() -> None:
    """What threads of drivers, finalizers and the process itself end with, goes the way of all lines: Python would
    print the text of the error as it is."""

    def of_process(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
        else:
            LOG.critical("the process ends by an error", exc_info=(kind, error, traceback))

    def of_thread(failure: threading.ExceptHookArgs) -> None:
        if issubclass(failure.exc_type, SystemExit):
            return
        name = failure.thread.name if failure.thread is not None else "?"
        error = failure.exc_value or failure.exc_type()
        LOG.error("thread %s ends by an error", name, exc_info=(failure.exc_type, error, failure.exc_traceback))

    def of_finalizer(failure: Any) -> None:
        error = failure.exc_value or failure.exc_type()
        what = failure.err_msg or "an error is ignored in"
        shown = getattr(failure.object, "__qualname__", type(failure.object).__name__)
        LOG.error("%s: %s", what, shown, exc_info=(failure.exc_type, error, failure.exc_traceback))

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_process, of_thread, of_finalizer


def _without_secrets(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last step before a line is written, so nothing comes in after it."""
    redacted = redact(dict(event))
    assert isinstance(redacted, dict)
    return redacted


_AS_THEY_ARE = {"event": "", "logger": "", "exception": "\n", "stack": "\n"}
"""What the renderer for humans writes without quoting it, and what of control characters stays: a traceback's lines."""


def _printable(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A line for humans, whose terminals obey control characters."""
    shown = {name: printable(str(event[name]), keep=keep) for name, keep in _AS_THEY_ARE.items() if name in event}
    return {**event, **shown}
