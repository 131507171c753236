"""The configured backends of a server: started side by side, retried while their storage cannot be reached."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csi_plugin.storage.backend import Backend

LOG = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 2.0
LAST_RETRY_SECONDS = 120.0


class BackendNotReady(Exception):
    """The backend is configured and not up, or not configured at all. gRPC: UNAVAILABLE."""


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """What is known of one configured backend."""

    name: str
    is_ready: bool
    error: str = ""
    """Why it is not ready: the text of the last failed start, or that none has ended yet."""
    attempts: int = 0


class BackendSet:
    """Provider of backends by name. Thread-safe.

    One that cannot start (its array is out of reach, its options are wrong) stops neither the process nor the others:
    it is tried again after 2 s, then after twice as long each time, at most every 2 min.
    """

    def __init__(
        self,
        configurations: Sequence[Mapping[str, Any]],
        *,
        strict: bool = True,
        first_retry: float = FIRST_RETRY_SECONDS,
        last_retry: float = LAST_RETRY_SECONDS,
    ) -> None:
        """``configurations``: arguments of Backend, one mapping for each; ``strict``: unknown options are errors.

        ``first_retry`` and ``last_retry``: seconds. Raises ValueError for a missing or repeated name.
        """
        self._configurations = {self._name(found): {"strict": strict, **found} for found in configurations}
        if len(self._configurations) < len(configurations):
            raise ValueError("two backends have the same volume_backend_name")
        self._first_retry = first_retry
        self._last_retry = last_retry
        self._status = {
            name: BackendStatus(name=name, is_ready=False, error="not started yet") for name in self._configurations
        }
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    @staticmethod
    def _name(configuration: Mapping[str, Any]) -> str:
        name = configuration.get("volume_backend_name")
        if not isinstance(name, str) or not name:
            raise ValueError("every backend needs a volume_backend_name")
        return name

    def start(self) -> None:
        """Start all backends, each in a thread of its own, and return at once."""
        for name in self._configurations:
            thread = threading.Thread(target=self._keep_starting, args=(name,), name=f"start-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def get(self, name: str) -> Backend:
        """The backend of that name. Raises BackendNotReady with the reason."""
        backend = Backend.backends.get(name) if name in self._configurations else None
        if backend is not None:
            return backend
        with self._changed:
            status = self._status.get(name)
        if status is None:
            known = ", ".join(sorted(self._configurations)) or "none"
            raise BackendNotReady(f"backend {name} is not configured (configured: {known})")
        raise BackendNotReady(f"backend {name} is not ready: {status.error}")

    def ready(self) -> list[Backend]:
        """The backends that are up, in the order of their configuration."""
        found = (Backend.backends.get(name) for name in self._configurations)
        return [backend for backend in found if backend is not None]

    def topologies(self) -> dict[str, list[dict[str, str]]]:
        """The CSI topologies of every configured backend by its name, up or not; empty for accessible from anywhere."""
        return {
            name: [dict(segments) for segments in configuration.get("topology", ())]
            for name, configuration in self._configurations.items()
        }

    def status(self) -> list[BackendStatus]:
        """Every configured backend, up or not."""
        with self._changed:
            return list(self._status.values())

    def wait_until_tried(self, timeout: float | None = None) -> bool:
        """Wait until each backend is up or has failed once; False when ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(status.attempts or status.is_ready for status in self._status.values()), timeout
            )

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait until all are up; False when ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: all(status.is_ready for status in self._status.values()), timeout)

    def close(self) -> None:
        """Stop trying and forget the backends; their volumes stay. A start that is running is not interrupted."""
        self._closed.set()
        for name in self._configurations:
            backend = Backend.backends.get(name)
            if backend is not None:
                backend.close()

    def _keep_starting(self, name: str) -> None:
        attempts, pause = 0, self._first_retry
        while not self._closed.is_set():
            attempts += 1
            began = time.monotonic()
            try:
                Backend(**self._configurations[name])
            except Exception as error:
                # Drivers raise anything when they cannot reach their storage; the reason goes to the status.
                LOG.warning("backend %s cannot be started, next try in %.0f s: %s", name, pause, _text(error))
                LOG.debug("backend %s cannot be started", name, exc_info=True)
                self._set(BackendStatus(name=name, is_ready=False, error=_text(error), attempts=attempts))
            else:
                LOG.info("backend %s is ready after %.1f s", name, time.monotonic() - began)
                self._set(BackendStatus(name=name, is_ready=True, attempts=attempts))
                return
            self._closed.wait(pause)
            pause = min(pause * 2, self._last_retry)

    def _set(self, status: BackendStatus) -> None:
        with self._changed:
            self._status[status.name] = status
            self._changed.notify_all()


def _text(error: Exception) -> str:
    from oslo_utils import strutils

    return str(strutils.mask_password(str(error).strip() or type(error).__name__))
