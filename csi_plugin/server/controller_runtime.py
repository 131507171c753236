"""The controller's side of a server: it leads first, and loads Cinder, with the services over it, afterwards."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from csi_plugin.persistence.base import InvalidPersistence, RecordStore
from csi_plugin.protocol.errors import unavailable
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.server.leadership import FileLeadership, Leadership, Lease, LeaseLeadership
from csi_plugin.server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from csi_plugin.controller.service import ControllerService
    from csi_plugin.server.controller_services import ControllerServices
    from csi_plugin.storage.backend_set import BackendStatus

LOG = logging.getLogger(__name__)

_STANDBY_SECONDS = 3.0
"""Who has waited that long for leadership is a standby."""

STARTING = "the controller is starting; retry"


class ControllerRuntime:
    """Everything behind the controller's services. start() loads Cinder, which takes a second: call it in a thread."""

    def __init__(self, settings: Settings, inflight: InFlight, *, on_lost: Callable[[str], None]) -> None:
        self._settings = settings
        self._inflight = inflight
        self._on_lost = on_lost
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._services: ControllerServices | None = None
        self._leadership: Leadership | None = None

    # Start

    def lead(self) -> bool:
        """Wait until this is the active controller; False when stopped before. Raises SettingsError."""
        leadership: Leadership
        leadership = lock = FileLeadership(self._settings.state_dir / "controller.lock")
        if lease := self._lease():
            leadership = LeaseLeadership(lease, lock=lock, seconds=self._settings.lease_seconds, on_lost=self._on_lost)
        # A standby loads Cinder meanwhile, which takes seconds on a busy machine. Who leads at once does it later, so
        # that its socket opens before.
        loading = threading.Timer(_STANDBY_SECONDS, _load_services)
        loading.daemon = True
        loading.start()
        has_won = leadership.acquire(self._stopping)
        loading.cancel()
        if has_won:
            self._leadership = leadership
        return has_won

    def _lease(self) -> Lease | None:
        """Where the lease is; None when no other host can share the metadata. Without Cinder where that is possible."""
        arguments = self._settings.persistence
        storage = arguments.get("storage", "memory")
        if storage in ("memory", "memory_db"):
            return None
        try:
            if storage == "db" and isinstance(arguments.get("connection"), str):
                from csi_plugin.persistence.dbms.lease import DatabaseLease

                return DatabaseLease(arguments["connection"], take_over=bool(arguments.get("take_over")))
            if storage == "crd":
                from csi_plugin.persistence.crd.lease import KubernetesLease

                where = {name: value for name, value in arguments.items() if name in ("namespace", "kubeconfig")}
                return KubernetesLease(**where)
        except InvalidPersistence as error:
            raise SettingsError(f"persistence: {error}") from error
        store = self._open_services().store
        return store if store.ATOMIC_ACROSS_PROCESSES else None

    def _open_services(self) -> "ControllerServices":
        """The services with their store open. Raises SettingsError for settings that cannot work."""
        if self._services is None:
            self._services = _load_services()(self._settings)
        return self._services

    def start(self) -> None:
        """Start the backends and the services over them. Returns at once; backends become ready by themselves."""
        assert self._leadership is not None
        self._open_services().start(self._inflight, self._leadership)
        self._started.set()

    def stop_waiting(self) -> None:
        """End a lead() that waits; it returns False."""
        self._stopping.set()

    def begin_to_stop(self) -> None:
        """Begin nothing more by itself; operations that run go on."""
        self._stopping.set()
        if self._services is not None:
            self._services.stop_recovery()

    def stop(self, *, drained: bool) -> None:
        """Close the backends and the store, and let the next controller take over at once if all operations have ended.

        Otherwise it waits until the lease has run out, and knows by that what may still be done to some volumes.
        """
        if self._services is not None:
            self._services.stop()
        if self._leadership is not None and drained:
            if self._services is not None:
                self._services.release()
            self._leadership.release()
        if self._services is not None:
            self._services.store.close()

    # What the socket answers meanwhile

    def serving(self) -> "ControllerService":
        """The service. Raises UNAVAILABLE while it starts."""
        if self._services is None or self._services.service is None:
            raise unavailable(STARTING)
        return self._services.service

    def wait_until_serving(self) -> "ControllerService":
        """The service, once it has started."""
        self._started.wait()
        return self.serving()

    @property
    def store(self) -> RecordStore | None:
        """The metadata store; None while starting."""
        return self._services.store if self._services is not None else None

    def is_leading(self) -> bool:
        """Whether this is the active controller."""
        return self._leadership is not None

    def backends(self) -> "list[tuple[BackendStatus, dict[str, Any]]]":
        """Every configured backend with the last stats of its driver, which nobody waits for; none while starting."""
        return self._services.backends() if self._services is not None else []

    def rooms(self) -> dict[tuple[str, str], float]:
        """GiB that may still be promised, by backend and pool; none while starting."""
        return self._services.rooms() if self._services is not None else {}

    def is_ready(self) -> bool:
        """For Probe: whether a backend is up. Raises FAILED_PRECONDITION when the metadata store fails."""
        return self._services is not None and self._services.is_ready()

    def offers(self) -> frozenset[str]:
        """What GetPluginCapabilities claims beside the services; waits for the start rather than claim too little."""
        return self.serving().offers()


def _load_services() -> "type[ControllerServices]":
    from csi_plugin.server.controller_services import ControllerServices

    return ControllerServices


def deferred(servicer: type[Any], find: Callable[[], Any]) -> Any:
    """A servicer whose every RPC is looked up in ``find()`` when it is called, so that it can be registered early."""

    def forward(name: str) -> Any:
        def call(request: Any, context: Any) -> Any:
            return getattr(find(), name)(request, context)

        return call

    names = [name for name in vars(servicer) if not name.startswith("_")]
    return type(f"Deferred{servicer.__name__}", (), {name: staticmethod(forward(name)) for name in names})()
