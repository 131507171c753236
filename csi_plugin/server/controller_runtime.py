"""The controller's side of a server: library, backends, services and recovery."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.protocol import calls
from csi_plugin.protocol.errors import failed_precondition, unavailable
from csi_plugin.protocol.inflight import InFlight
from csi_plugin.server.identity import expansion_offers
from csi_plugin.server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from csi_plugin.controller.service import ControllerService
    from csi_plugin.persistence.base import RecordStore
    from csi_plugin.server.cinder_backends import CinderBackends
    from csi_plugin.server.leadership import Leadership, Lease
    from csi_plugin.storage.backend_set import BackendSet, BackendStatus

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
        self.service: ControllerService | None = None
        self.store: RecordStore | None = None
        self._backends: BackendSet | None = None
        self._cinder_backends: CinderBackends | None = None
        self._leadership: Leadership | None = None

    # Start

    def open(self) -> None:
        """Open the metadata store and set up the library. Raises SettingsError for settings that cannot work."""
        if self.store is None:
            self.store = open_store(self._settings)

    def lead(self) -> bool:
        """Wait until this is the active controller; False when stopped before. Raises SettingsError."""
        from csi_plugin.server.leadership import FileLeadership, LeaseLeadership

        leadership: Leadership
        leadership = lock = FileLeadership(self._settings.state_dir / "controller.lock")
        if lease := self._lease():
            leadership = LeaseLeadership(lease, lock=lock, seconds=self._settings.lease_seconds, on_lost=self._on_lost)
        # A standby loads Cinder meanwhile, which takes seconds on a busy machine. Who leads at once does it later, so
        # that its socket opens before.
        loading = threading.Timer(_STANDBY_SECONDS, _load_library)
        loading.daemon = True
        loading.start()
        has_won = leadership.acquire(self._stopping)
        loading.cancel()
        if has_won:
            self._leadership = leadership
        return has_won

    def _lease(self) -> "Lease | None":
        """Where the lease is; None when no other host can share the metadata."""
        from csi_plugin.persistence.base import InvalidPersistence

        arguments = self._settings.persistence
        match arguments.get("storage", "memory"):
            case "memory" | "memory_db":
                return None
            case "db" if isinstance(arguments.get("connection"), str):
                # Without Cinder, which takes a second to load: the socket opens before that.
                from csi_plugin.persistence.dbms.lease import DatabaseLease

                try:
                    return DatabaseLease(arguments["connection"])
                except InvalidPersistence as error:
                    raise SettingsError(f"persistence: {error}") from error
            case "crd":
                from csi_plugin.persistence.crd.lease import KubernetesLease

                where = {name: value for name, value in arguments.items() if name in ("namespace", "kubeconfig")}
                try:
                    return KubernetesLease(**where)
                except InvalidPersistence as error:
                    raise SettingsError(f"persistence: {error}") from error
        self.open()
        return self.store if self.store is not None and self.store.ATOMIC_ACROSS_PROCESSES else None

    def _check_leadership(self) -> None:
        from csi_plugin.server.leadership import LeadershipLost
        from csi_plugin.storage.backend_set import BackendNotReady

        assert self._leadership is not None
        try:
            self._leadership.check()
        except LeadershipLost as error:
            raise BackendNotReady(str(error)) from error

    def start(self) -> None:
        """Start the backends and the services over them. Returns at once; backends become ready by themselves."""
        from csi_plugin.controller.service import ControllerService
        from csi_plugin.storage.backend_set import BackendSet
        from csi_plugin.storage.library_state import STATE

        self.open()
        assert self.store is not None
        STATE.before_driver_call = self._check_leadership
        STATE.time_to_wait = calls.time_to_wait
        settings = self._settings
        self._backends = BackendSet(backend_configurations(settings), on_change=self._backend_changed)
        configuration = ControllerConfiguration(
            driver_name=settings.driver_name,
            cluster_name=settings.cluster_name,
            undo_window_seconds=settings.undo_window_seconds,
            settle_seconds=settings.settle_seconds,
            recovery_interval_seconds=settings.recovery_interval_seconds,
            disabled_features=frozenset(settings.disabled_features),
        )
        service = ControllerService(configuration, self._backends, self.store, self._inflight)
        self.store.use_connection_sealer(service.node_registry.sealed_for_store)
        self.store.start_upkeep()
        self._backends.start()
        if settings.persistence.get("storage") == "crd":
            self._follow_cinder_backends(self._backends)
        service.recovery.start()
        self.service = service
        self._started.set()

    def _follow_cinder_backends(self, backends: "BackendSet") -> None:
        from csi_plugin.server.cinder_backends import CinderBackends
        from csi_plugin.storage.backend import Backend

        self._cinder_backends = CinderBackends(
            Backend.persistence.backends,
            backends,
            taken=[status.name for status in backends.status()],
            topologies=self._settings.topologies,
        )
        self._cinder_backends.start()

    def _backend_changed(self) -> None:
        if self._cinder_backends is not None:
            self._cinder_backends.wake()

    def stop_waiting(self) -> None:
        """End a lead() that waits; it returns False."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop recovery, let the next controller take over, and close the store. Operations must have ended."""
        self._stopping.set()
        if self.service is not None:
            self.service.recovery.stop()
        if self._cinder_backends is not None:
            self._cinder_backends.stop()
        if self._backends is not None:
            self._backends.close()
        if self._leadership is not None:
            self._leadership.release()
        if self.store is not None:
            self.store.close()

    # What the socket answers meanwhile

    def serving(self) -> "ControllerService":
        """The service. Raises UNAVAILABLE while it starts."""
        if self.service is None:
            raise unavailable(STARTING)
        return self.service

    def wait_until_serving(self) -> "ControllerService":
        """The service, once it has started."""
        self._started.wait()
        return self.serving()

    def is_leading(self) -> bool:
        """Whether this is the active controller."""
        return self._leadership is not None

    def backends(self) -> "list[tuple[BackendStatus, dict[str, Any]]]":
        """Every configured backend with the last stats of its driver, which nobody waits for; none while starting."""
        if self._backends is None:
            return []
        stats = {backend.id: backend.driver_stats.recent() for backend in self._backends.ready()}
        return [(status, stats.get(status.name, {})) for status in self._backends.status()]

    def is_ready(self) -> bool:
        """For Probe: whether a backend is up. Raises FAILED_PRECONDITION when the metadata store fails."""
        from csi_plugin.persistence.base import PersistenceError

        if self.service is None or self.store is None or self._backends is None:
            return False
        try:
            self.store.health()
        except PersistenceError as error:
            raise failed_precondition(f"the metadata store is unavailable: {error}") from error
        return bool(self._backends.ready())

    def offers(self) -> frozenset[str]:
        """What GetPluginCapabilities claims beside the services; waits for the start rather than claim too little."""
        service = self.serving()
        offers = set(expansion_offers(self._settings))
        if service.offers_group_snapshots():
            offers.add("groups")
        if service.offers_topology():
            offers.add("topology")
        return frozenset(offers)


def _load_library() -> None:
    import csi_plugin.controller.service
    import csi_plugin.storage.backend_set  # noqa: F401


def open_store(settings: Settings) -> "RecordStore":
    """Set up the library with its metadata. Raises SettingsError for settings that cannot work."""
    from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
    from csi_plugin.persistence.sealing import load_keys
    from csi_plugin.storage.backend import Backend

    check_sealing(settings, settings.persistence)
    defaults = _cinder_defaults(settings)
    for folder in (settings.state_dir, settings.locks_path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        Backend.global_setup(
            file_locks_path=str(settings.locks_path),
            root_helper=settings.root_helper,
            disable_logs=settings.disable_logs,
            project_id=settings.project_id,
            user_id=settings.user_id,
            persistence_config=settings.persistence,
            host=settings.host,
            sealing_keys=load_keys(settings.sealing_keys_file),
            **{"state_path": str(settings.state_dir), **defaults, **settings.cinder_options},
        )
    except (InvalidPersistence, PersistenceError, ValueError, OSError) as error:
        raise SettingsError(f"metadata store: {error}") from error
    return Backend.store


def check_sealing(settings: Settings, persistence: Mapping[str, Any]) -> None:
    """Raise SettingsError when the metadata needs a key to be sealed with where it is, or is going to be, kept."""
    from csi_plugin.persistence.sealing import load_keys

    try:
        keys = load_keys(settings.sealing_keys_file)
    except (ValueError, OSError) as error:
        raise SettingsError(f"sealing keys: {error}") from error
    if persistence.get("storage") == "crd" and not keys:
        raise SettingsError(
            "custom resources are read by more people than may know the storage's passwords, so metadata in them needs "
            "a key: sealing_keys_file, from a Secret for example (`cinderbox generate-key` creates one)"
        )


def backend_configurations(settings: Settings) -> list[dict[str, Any]]:
    """Arguments of Backend for every backend of the settings. Raises SettingsError for a bad cinder.conf."""
    from csi_plugin.server.cinder_conf import read_backends
    from csi_plugin.server.driver_names import full_driver_name

    configurations = [dict(backend) for backend in settings.backends]
    if settings.cinder_conf:
        configurations += read_backends(settings.cinder_conf)[0]
    for configuration in configurations:
        configuration["volume_driver"] = full_driver_name(configuration["volume_driver"])
        if settings.topologies:
            configuration.setdefault("topology", settings.topologies)
    return configurations


def _cinder_defaults(settings: Settings) -> dict[str, Any]:
    """The [DEFAULT] section of a native cinder.conf."""
    from csi_plugin.server.cinder_conf import read_backends

    return read_backends(settings.cinder_conf)[1] if settings.cinder_conf else {}


def deferred(servicer: type[Any], find: Callable[[], Any]) -> Any:
    """A servicer whose every RPC is looked up in ``find()`` when it is called, so that it can be registered early."""

    def forward(name: str) -> Any:
        def call(request: Any, context: Any) -> Any:
            return getattr(find(), name)(request, context)

        return call

    names = [name for name in vars(servicer) if not name.startswith("_")]
    return type(f"Deferred{servicer.__name__}", (), {name: staticmethod(forward(name)) for name in names})()
