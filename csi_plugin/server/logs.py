"""Logs: one line per event, JSON or for humans, from our code and from every library alike, without secrets."""

import logging
import sys
from collections.abc import MutableMapping
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


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
