"""What the controller serves once it leads: the library with its metadata, the backends, the services and recovery.

Importing it loads Cinder, which takes a second: ControllerRuntime does so when the socket is open.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.service import ControllerService
from csi_plugin.persistence.base import PersistenceError
from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import failed_precondition
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.server.backend_configurations import backend_configurations
from csi_plugin.server.leadership import LeadershipLost
from csi_plugin.server.metadata_store import open_store
from csi_plugin.server.settings import Settings
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.backend_set import BackendNotReady, BackendSet, BackendStatus
from csi_plugin.storage.library_state import STATE

if TYPE_CHECKING:
    from csi_plugin.server.cinder_backends import CinderBackends


class ControllerServices:
    """The metadata store from the beginning, everything else from start() on."""

    def __init__(self, settings: Settings) -> None:
        """Open the metadata store and set up the library. Raises SettingsError for settings that cannot work."""
        self._settings = settings
        self.store = open_store(settings)
        self.service: ControllerService | None = None
        self._backends: BackendSet | None = None
        self._cinder_backends: CinderBackends | None = None

    def start(self, inflight: InFlight, *, check_leadership: Callable[[], None]) -> None:
        """Start the backends and the services over them. Returns at once; backends become ready by themselves.

        ``check_leadership`` is called before every driver call; it raises LeadershipLost to forbid it.
        """

        def before_driver_call() -> None:
            try:
                check_leadership()
            except LeadershipLost as error:
                raise BackendNotReady(str(error)) from error

        STATE.before_driver_call = before_driver_call
        STATE.time_to_wait = current_rpc.time_to_wait
        settings = self._settings
        backends = self._backends = BackendSet(backend_configurations(settings), on_change=self._on_backend_change)
        configuration = ControllerConfiguration(
            driver_name=settings.driver_name,
            cluster_name=settings.cluster_name,
            undo_window_seconds=settings.undo_window_seconds,
            settle_seconds=settings.settle_seconds,
            recovery_interval_seconds=settings.recovery_interval_seconds,
            disabled_features=frozenset(settings.disabled_features),
        )
        service = ControllerService(configuration, backends, self.store, inflight)
        self.store.use_connection_sealer(service.node_registry.sealed_for_store)
        self.store.use_filesystem_recorder(service.node_registry.take_over_filesystems)
        self.store.use_volume_health(service.health_watch.problems_of)
        self.store.start_upkeep()
        backends.start()
        if settings.persistence.get("storage") == "crd":
            self._start_cinder_backends(backends)
        service.recovery.start()
        service.health_watch.start()
        self.service = service

    def _start_cinder_backends(self, backends: BackendSet) -> None:
        from csi_plugin.server.cinder_backends import CinderBackends

        self._cinder_backends = CinderBackends(
            Backend.persistence.backends,
            backends,
            taken=[status.name for status in backends.status()],
            topologies=self._settings.topologies,
        )
        self._cinder_backends.start()

    def _on_backend_change(self) -> None:
        if self._cinder_backends is not None:
            self._cinder_backends.wake()

    def stop(self) -> None:
        """Stop recovery and the backends. Operations must have ended; the store stays open."""
        if self.service is not None:
            self.service.recovery.stop()
            self.service.health_watch.stop()
        if self._cinder_backends is not None:
            self._cinder_backends.stop()
        if self._backends is not None:
            self._backends.close()

    def backends(self) -> list[tuple[BackendStatus, dict[str, Any]]]:
        """Every configured backend with the last stats of its driver, which nobody waits for; none while starting."""
        if self._backends is None:
            return []
        stats = {backend.id: backend.driver_stats.recent() for backend in self._backends.ready()}
        return [(status, stats.get(status.name, {})) for status in self._backends.status()]

    def is_ready(self) -> bool:
        """Whether a backend is up. Raises FAILED_PRECONDITION when the metadata store fails."""
        if self.service is None or self._backends is None:
            return False
        try:
            self.store.health()
        except PersistenceError as error:
            raise failed_precondition(f"the metadata store is unavailable: {error}") from error
        return bool(self._backends.ready())
