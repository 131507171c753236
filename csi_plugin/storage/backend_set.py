"""The configured backends of a server: started side by side, retried while their storage cannot be reached, and
configured again while they serve."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from csi_plugin.error_text import error_text
from csi_plugin.protocol.backoff import Backoff
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.backend_configuration import BackendConfiguration
from csi_plugin.storage.cinder import exception

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
    """Whether it serves, be it with what it was configured with before."""
    is_current: bool = True
    """Whether it serves with what it was configured with last."""
    error: str = ""
    """Why not: the text of the last failed start, or that none has ended yet."""
    is_invalid: bool = False
    """Whether the error is in the configuration itself, as far as the driver tells that apart."""
    attempts: int = 0
    """Starts with the last configuration that have ended."""


class BackendSet:
    """Provider of backends by name. Thread-safe.

    One that cannot start (its array is out of reach, its options are wrong) stops neither the process nor the others:
    its start is attempted again after 2 s, then after twice as long each time, at most every 2 min. One that is
    configured again serves with its old configuration until a driver with the new one is up; see ``Backend.replace``.
    """

    def __init__(
        self,
        configurations: Sequence[BackendConfiguration] = (),
        *,
        first_retry: float = FIRST_RETRY_SECONDS,
        last_retry: float = LAST_RETRY_SECONDS,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """``first_retry`` and ``last_retry``: seconds; ``on_change``: called, from any thread, when the status of a
        backend has changed. Raises ValueError for a repeated name.
        """
        self._retries = (first_retry, last_retry)
        self._on_change = on_change
        self._changed = threading.Condition()
        self._is_started = False
        self.are_all_known = True
        """Whether no backend is configured elsewhere that this set was not told of; whoever tells it sets this."""
        self._managed: dict[str, _ManagedBackend] = {}
        for configuration in configurations:
            if configuration.name in self._managed:
                raise ValueError("two backends have the same volume_backend_name")
            self.configure(configuration)

    def start(self) -> None:
        """Start all backends, each in a thread of its own, and return at once."""
        with self._changed:
            self._is_started = True
            for managed in self._managed.values():
                managed.start()

    def configure(self, configuration: BackendConfiguration) -> None:
        """Add a backend, or give the one of that name another configuration, and return at once.

        A start that is running is not interrupted: the new configuration is attempted when it has ended.
        """
        name = configuration.name
        with self._changed:
            managed = self._managed.get(name)
            if managed is None:
                managed = self._managed[name] = _ManagedBackend(
                    configuration, self._changed, self._retries, self._announce
                )
            managed.configure(configuration)
            if self._is_started:
                managed.start()
            self._changed.notify_all()

    def suspend(self, name: str, is_suspended: bool) -> None:
        """Let a backend take no new volumes, or take them again; also one that is not up yet."""
        with self._changed:
            if managed := self._managed.get(name):
                managed.suspend(is_suspended)

    def remove(self, name: str) -> None:
        """Forget a backend; its volumes stay. Operations that it has begun are ended."""
        with self._changed:
            if managed := self._managed.pop(name, None):
                managed.end()
                self._changed.notify_all()

    def get(self, name: str) -> Backend:
        """The backend of that name. Raises BackendNotReady with the reason."""
        managed = self._managed.get(name)
        if managed is None:
            raise BackendNotReady(self._unknown(name))
        if managed.backend is None:
            raise BackendNotReady(f"backend {name} is not ready: {managed.status.error}")
        return managed.backend

    def find_ready(self, name: str) -> Backend | None:
        """The backend of that name, or None unless it is up."""
        managed = self._managed.get(name)
        return None if managed is None else managed.backend

    def check_known(self, name: str) -> None:
        """Raise ValueError when nobody has configured a backend of that name; not while that cannot be said."""
        if self.are_all_known and name not in self._managed:
            raise ValueError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        return f"backend {name} is not configured (configured: {', '.join(sorted(self._managed)) or 'none'})"

    def ready(self) -> list[Backend]:
        """The backends that are up, in the order in which they were configured."""
        return [managed.backend for managed in list(self._managed.values()) if managed.backend is not None]

    def starting(self) -> list[str]:
        """Names of the backends whose first start has not ended."""
        managed = list(self._managed.values())
        return [each.name for each in managed if each.backend is None and not each.status.attempts]

    def topologies(self) -> dict[str, list[dict[str, str]]]:
        """The CSI topologies of every configured backend by its name, up or not; empty for accessible from anywhere."""
        return {managed.name: managed.topology for managed in list(self._managed.values())}

    def status(self) -> list[BackendStatus]:
        """Every configured backend, up or not."""
        return [managed.status for managed in list(self._managed.values())]

    def wait_until_attempted(self, timeout: float | None = None) -> bool:
        """Wait until each backend is up or has failed once; False when ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: all(status.attempts for status in self.status()), timeout)

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait until all are up; False when ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: all(status.is_ready for status in self.status()), timeout)

    def close(self) -> None:
        """Stop the attempts and forget the backends; their volumes stay. A start that is running is not interrupted."""
        with self._changed:
            for managed in self._managed.values():
                managed.end()
            self._changed.notify_all()

    def _announce(self) -> None:
        if self._on_change is not None:
            self._on_change()


class _ManagedBackend:
    """One configured backend, and the thread that brings it up with what it is configured with last.

    Methods but run() are called with the lock of ``changed`` held; attributes are read without.
    """

    def __init__(
        self,
        configuration: BackendConfiguration,
        changed: threading.Condition,
        retries: tuple[float, float],
        announce: Callable[[], None],
    ) -> None:
        self.name = configuration.name
        self.backend: Backend | None = None
        self.status = BackendStatus(name=self.name, is_ready=False, error="not started yet")
        self._changed = changed
        self._retries = retries
        self._announce = announce
        self._desired = configuration
        self._attempted: BackendConfiguration | None = None
        self._is_suspended = False
        self._is_over = False
        self._thread: threading.Thread | None = None

    @property
    def topology(self) -> list[dict[str, str]]:
        if self.backend is not None:
            return self.backend.topology
        return [dict(segments) for segments in self._desired.topology]

    def configure(self, configuration: BackendConfiguration) -> None:
        self._desired = configuration
        serves = self.backend is not None
        error = "its new configuration has not been attempted yet" if serves else "not started yet"
        self.status = BackendStatus(name=self.name, is_ready=serves, is_current=False, error=error)

    def suspend(self, is_suspended: bool) -> None:
        self._is_suspended = is_suspended
        if self.backend is not None:
            self.backend.is_suspended = is_suspended

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self.run, name=f"start-{self.name}", daemon=True)
            self._thread.start()

    def end(self) -> None:
        self._is_over = True
        if self.backend is not None:
            self.backend.close()
            self.backend = None

    def run(self) -> None:
        backoff, pause = Backoff(*self._retries), 0.0
        while (configuration := self._next(pause)) is not None:
            attempts, began = self.status.attempts + 1, time.monotonic()
            try:
                backend = Backend.replace(**configuration.arguments())
            except Exception as error:  # noqa: BLE001
                # Drivers raise anything when they cannot reach their storage; the reason goes to the status.
                if attempts == 1:  # with this configuration
                    backoff.reset()
                pause = backoff.next_pause()
                self._record_failure(error, attempts, pause)
            else:
                LOG.info("backend %s is ready after %.1f s", self.name, time.monotonic() - began)
                pause = 0.0
                self._record_start(backend, attempts)
            self._announce()

    def _next(self, pause: float) -> BackendConfiguration | None:
        """Wait for the next configuration to start with: a new one at once, one that failed after a pause (seconds; 0
        for none that failed). None when this backend is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._desired is not self._attempted, pause or None)
            self._attempted = self._desired
            return None if self._is_over else self._attempted

    def _record_failure(self, error: Exception, attempts: int, pause: float) -> None:
        serves = self.backend is not None
        text = "backend %s cannot be started%s, retrying in %.0f s: %s"
        LOG.warning(text, self.name, " with its new configuration" if serves else "", pause, error_text(error))
        LOG.debug("backend %s cannot be started", self.name, exc_info=error)
        self._set(
            BackendStatus(
                name=self.name,
                is_ready=serves,
                is_current=False,
                error=error_text(error),
                is_invalid=isinstance(error, ValueError | exception.Invalid),
                attempts=attempts,
            )
        )

    def _record_start(self, backend: Backend, attempts: int) -> None:
        with self._changed:
            if self._is_over:
                backend.close()
                return
            self.backend = backend
            backend.is_suspended = self._is_suspended
            self._set(BackendStatus(name=self.name, is_ready=True, attempts=attempts))

    def _set(self, status: BackendStatus) -> None:
        with self._changed:
            # Of a configuration that is not the last one any more, only what serves counts.
            self.status = status if self._attempted is self._desired else replace(self.status, is_ready=status.is_ready)
            self._changed.notify_all()
