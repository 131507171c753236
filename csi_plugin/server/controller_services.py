"""What the controller serves once it leads: the library with its metadata, the backends, the services and recovery.

Importing it loads Cinder, which takes a second: ControllerRuntime does so when the socket is open.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.service import ControllerService
from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.leases import Fence
from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.errors import failed_precondition
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.server.backend_configurations import backend_configurations
from csi_plugin.server.installation import settle_driver_name
from csi_plugin.server.leadership import LEASE_NAME, Leadership
from csi_plugin.server.metadata_store import open_store
from csi_plugin.server.settings import Settings
from csi_plugin.server.store_health import StoreHealth
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.backend_set import BackendSet, BackendStatus
from csi_plugin.storage.cinder import pools
from csi_plugin.storage.cinder.driver_stats import is_up
from csi_plugin.storage.library_state import STATE

if TYPE_CHECKING:
    from csi_plugin.server.cinder_backends import CinderBackends


class ControllerServices:
    """The metadata store from the beginning, everything else from start() on."""

    def __init__(self, settings: Settings) -> None:
        """Open the metadata store and set up the library. Raises SettingsError for settings that cannot work."""
        self._settings = settings
        self.store = open_store(settings)
        self._store_health = StoreHealth(self.store)
        self.service: ControllerService | None = None
        self._backends: BackendSet | None = None
        self._cinder_backends: CinderBackends | None = None

    def start(self, inflight: InFlight, leadership: Leadership) -> None:
        """Start the backends and the services over them. Returns at once; backends become ready by themselves.

        Raises SettingsError for a driver name under which what is recorded cannot be used.

        No driver call and no write begins from the end of ``leadership`` on.
        """
        STATE.before_driver_call = leadership.check
        STATE.time_to_wait = current_rpc.time_to_wait
        term = leadership.term()
        self.store.use_fence(Fence(LEASE_NAME, term.epoch, check=leadership.check, overtaken=leadership.lose))
        settings = self._settings
        settle_driver_name(self.store, settings.driver_name)
        backends = self._backends = BackendSet(backend_configurations(settings), on_change=self._on_backend_change)
        configuration = ControllerConfiguration(
            driver_name=settings.driver_name,
            cluster_name=settings.cluster_name,
            undo_window_seconds=settings.undo_window_seconds,
            settle_seconds=settings.settle_seconds,
            recovery_interval_seconds=settings.recovery_interval_seconds,
            node_expiry_seconds=settings.node_expiry_hours * 3600,
            most_waiting_for_store=settings.workers // 8,
            disabled_features=frozenset(settings.disabled_features),
        )
        service = ControllerService(configuration, backends, self.store, inflight)
        self.store.use_connection_sealer(service.node_registry.sealed_for_store)
        self.store.use_connection_renewer(service.node_registry.is_renewing)
        self.store.use_filesystem_recorder(service.node_registry.take_over_filesystems)
        self.store.use_volume_health(service.health_watch.problems_of)
        self.store.start_upkeep()
        backends.start()
        if settings.persistence.get("storage") == "crd":
            self._start_cinder_backends(backends)
        service.recovery.hold(term)
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

    def stop_recovery(self) -> None:
        """Let nothing begin that no RPC asks for."""
        if self.service is not None:
            self.service.recovery.stop()
            self.service.health_watch.stop()

    def release(self) -> None:
        """Nothing is under way any more: let the next controller know."""
        if self.service is not None:
            self.service.recovery.release()

    def stop(self) -> None:
        """Stop the backends. The store stays open."""
        if self._cinder_backends is not None:
            self._cinder_backends.stop()
        if self._backends is not None:
            self._backends.close()

    def backends(self) -> list[tuple[BackendStatus, dict[str, Any]]]:
        """Every configured backend with the last stats of its driver, which nobody waits for; none while starting. One
        whose storage is down, or does not answer, is not ready."""
        if self._backends is None:
            return []
        ready = {backend.id: backend.driver_stats for backend in self._backends.ready()}
        stats = {name: found.recent() for name, found in ready.items()}
        answering = {name for name, found in ready.items() if not found.error and is_up(stats[name])}
        return [
            (replace(status, is_ready=status.is_ready and status.name in answering), stats.get(status.name, {}))
            for status in self._backends.status()
        ]

    def rooms(self) -> dict[tuple[str, str], float]:
        """GiB that may still be promised, by backend and pool; see pools.rooms_of."""
        ready = self._backends.ready() if self._backends is not None else []
        return {(backend.id, pool): room for backend in ready for pool, room in pools.rooms_of(backend).items()}

    def is_ready(self) -> bool:
        """Whether a backend is up. Raises FAILED_PRECONDITION when the metadata store fails, or is silent."""
        if self.service is None or self._backends is None:
            return False
        try:
            self._store_health.check()
        except PersistenceError as error:
            raise failed_precondition(f"the metadata store is unavailable: {error}") from error
        return bool(self._backends.ready())
