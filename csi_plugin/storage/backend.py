"""Backend: one configured Cinder driver, and the library's set-up that all of them share."""

import json
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from csi_plugin.persistence import registry
from csi_plugin.persistence.base import PersistenceDriverBase, RecordStore
from csi_plugin.persistence.builtin_plugin import BuiltinPlugin
from csi_plugin.persistence.records import ConnectionRecord, VolumeRecord
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.storage import database
from csi_plugin.storage.cinder import driver_catalogue, driver_classes, driver_start, driver_stats, options, runtime
from csi_plugin.storage.cinder.driver_stats import DriverStats
from csi_plugin.storage.cinder.reservations import Reservations
from csi_plugin.storage.cinder.slots import Slots

if TYPE_CHECKING:
    from csi_plugin.storage.group import Group
    from csi_plugin.storage.volume import Volume

LOG = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 32
_NEW = threading.RLock()
"""Held while a backend is made, so that two threads that ask for one name get one object."""

_DECIDED_HERE = ("clone", "copy_in_use", "extend", "snapshot", "snapshots_in_use")
_CAPABILITY_METHODS = {
    "revert": "revert_to_snapshot",
    "groups": "create_group_snapshot",
    "retype": "retype",
    "manage": "manage_existing",
    "list_manageable": "get_manageable_volumes",
    "migrate": "migrate_volume",
}
_CAPABILITY_STATS = {
    "online_extend": ("online_extend_support", True),
    "multiattach": ("multiattach", False),
    "qos": ("QoS_support", False),
    "groups": ("consistent_group_snapshot_enabled", False),
    "thin": ("thin_provisioning_support", False),
}
"""Capability: its name in a driver's stats, and what a driver means that does not report it."""


class Backend:
    """A storage backend, as cinderlib documented it; everything that is not here is looked up in the driver.

    Several live in one process, one per ``volume_backend_name``. Thread-safe.
    """

    backends: ClassVar[dict[str, "Backend"]] = {}
    """The backends that are up, by name."""
    global_initialization: ClassVar[bool] = False
    persistence: ClassVar[Any]
    """The persistence plugin that the user configured."""
    store: ClassVar[RecordStore]
    """The plugin as records, with secret fields in clear: what the library itself works on."""
    fail_on_missing_backend: ClassVar[bool] = True
    output_all_backend_info: ClassVar[bool] = False
    non_uuid_ids: ClassVar[bool] = False
    project_id: ClassVar[str | None] = None
    user_id: ClassVar[str | None] = None
    before_driver_call: ClassVar[Callable[[], None] | None] = None
    """Called before each driver call; raises to forbid it (a controller that is no longer the active one)."""
    time_to_wait: ClassVar[Callable[[], float | None] | None] = None
    """Called in a thread that finds all places taken: the seconds that it may wait for one; None: for ever."""
    _sealing_keys: ClassVar[Sequence[bytes] | None] = None
    _starting: ClassVar[dict[str, "Backend"]] = {}
    """The backends that a thread is starting, by name."""
    reservations: Reservations
    is_suspended: bool
    """Whether it takes no new volumes; everything else goes on. May be set."""
    _original_driver_cfg: dict[str, Any]
    _start_lock: threading.RLock

    def __new__(cls, volume_backend_name: str, **driver_cfg: Any) -> "Backend":
        with _NEW:
            existing = Backend.backends.get(volume_backend_name) or Backend._starting.get(volume_backend_name)
            if existing is None:
                new = super().__new__(cls)
                new._original_driver_cfg = driver_cfg
                new._start_lock = threading.RLock()
                Backend._starting[volume_backend_name] = new
                return new
            if driver_cfg != existing._original_driver_cfg:
                raise ValueError(f"Backend named {volume_backend_name} already exists with a different configuration")
            return existing

    def __init__(
        self,
        volume_backend_name: str,
        *,
        topology: Sequence[Mapping[str, str]] = (),
        max_concurrent_operations: int = DEFAULT_CONCURRENCY,
        strict: bool = False,
        secret_options: Collection[str] = (),
        **driver_cfg: Any,
    ) -> None:
        """Start a driver.

        ``driver_cfg``: ``volume_driver`` (its class path) and the driver's options; ``topology``: CSI segments from
        which the backend's volumes can be reached (everywhere when empty); ``max_concurrent_operations``: driver calls
        that may run at once; ``strict``: an unknown option is an error instead of a warning; ``secret_options``: names
        of options whose values no message quotes, besides those that Cinder defines so.

        The same name and arguments again give the same object. Raises ValueError for a name in use or not usable, for
        an ill-typed option (and an unknown one when ``strict``), and whatever the driver's own start raises.
        """
        with self._start_lock:
            with _NEW:
                if Backend.backends.get(volume_backend_name) is self:
                    return
                # A start that failed in another thread is tried again here, unless a third one has begun to.
                if Backend._starting.setdefault(volume_backend_name, self) is not self:
                    raise ValueError(f"Backend named {volume_backend_name} is being started by another thread")
            try:
                with _NEW:
                    if not Backend.global_initialization:
                        Backend.global_setup()
                _check_name(volume_backend_name)
                self.topology = [dict(segments) for segments in topology]
                self._driver_cfg = {**driver_cfg, "volume_backend_name": volume_backend_name}
                self._prepare(max_concurrent_operations)
                self._start(strict=strict, secret_options=secret_options)
                with _NEW:
                    Backend.backends[volume_backend_name] = self
            finally:
                with _NEW:
                    del Backend._starting[volume_backend_name]

    def _prepare(self, max_concurrent_operations: int) -> None:
        if max_concurrent_operations < 1:
            raise ValueError("max_concurrent_operations must be at least 1")
        self._slots = Slots(self.id, max_concurrent_operations)
        replaced = Backend.backends.get(self.id)
        self.reservations = Reservations() if replaced is None else replaced.reservations
        self.is_suspended = False if replaced is None else replaced.is_suspended
        self._volumes: list[Volume] | None = None
        self._volumes_lock = threading.RLock()

    def _start(self, *, strict: bool, secret_options: Collection[str]) -> None:
        self.host = f"{runtime.host()}@{self.id}"
        self.driver = driver_start.new_driver(
            self.id, self._driver_cfg, host=self.host, strict=strict, secret=secret_options
        )
        self.extra_capabilities = driver_stats.extra_capabilities(self.driver)
        driver_start.start(self.driver)
        self.driver_stats = DriverStats(self.driver, self.id)
        self._pool_names = tuple(pool["pool_name"] for pool in self.stats()["pools"])
        self._restore_volumes()

    def _restore_volumes(self) -> None:
        attached: dict[str, list[Mapping[str, Any]]] = {}
        for connection in self.store.find(ConnectionRecord):
            if connection.attach_status == "attached":
                attached.setdefault(connection.volume_id, []).append(connection.connector or {})
        driver_start.restore(self.driver, self.host, attached)

    @classmethod
    def replace(cls, volume_backend_name: str, **driver_cfg: Any) -> "Backend":
        """Start a driver in place of the one that serves under this name; arguments as for a new Backend.

        The present driver serves until the new one is up, and ends what it has begun; it goes on as if nothing had
        happened when the new one cannot start, which raises as a new Backend does. Without a present one, this is a new
        Backend. The same arguments again give the present one.
        """
        with _NEW:
            present = Backend.backends.get(volume_backend_name)
            if present is None or present._original_driver_cfg == driver_cfg:
                return cls(volume_backend_name, **driver_cfg)
            if volume_backend_name in Backend._starting:
                raise ValueError(f"Backend named {volume_backend_name} is being started by another thread")
            new = super().__new__(cls)
            new._original_driver_cfg = driver_cfg
            new._start_lock = threading.RLock()
            Backend._starting[volume_backend_name] = new
        options.detach(present.configuration)
        try:
            new.__init__(volume_backend_name, **driver_cfg)  # type: ignore[misc]
        except BaseException:
            # Drivers that look options up by the backend's name shall find the old ones.
            options.refill(volume_backend_name, present._driver_cfg)
            raise
        return new

    def close(self) -> None:
        """Forget this backend: its name is free again. Its volumes and their records stay. Repeatable."""
        with _NEW:
            if Backend.backends.get(self.id) is self:
                del Backend.backends[self.id]
                options.forget(self.id)

    # What it is.

    @property
    def id(self) -> str:
        name: str = self._driver_cfg["volume_backend_name"]
        return name

    @property
    def name(self) -> str:
        return self.id

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as dumps hold it: all of it only with ``output_all_backend_info``."""
        return dict(self._driver_cfg) if self.output_all_backend_info else {"volume_backend_name": self.id}

    @property
    def configuration(self) -> Any:
        """The driver's configuration object (cinder.volume.configuration)."""
        return self.driver.configuration

    @property
    def pool_names(self) -> tuple[str, ...]:
        return self._pool_names

    def __repr__(self) -> str:
        return f"<csi_plugin.Backend {self.id}>"

    def __getattr__(self, name: str) -> Any:
        if "driver" not in self.__dict__:
            raise AttributeError(name)
        try:
            return getattr(self.__dict__["driver"], name)
        except NotImplementedError as error:  # as some drivers say that they do not have it
            raise AttributeError(name) from error

    def supports(self, capability: str) -> bool:
        """Whether the driver can: clone, snapshot, copy_in_use (either, of a connected volume), snapshots_in_use
        (connect a volume that has snapshots, to a host that attaches raw files only), extend, online_extend, revert,
        groups, retype, multiattach, manage, list_manageable, migrate, qos, thin. Decided from its methods and its last
        stats, without a call to the storage.
        """
        if capability not in {*_DECIDED_HERE, *_CAPABILITY_METHODS, *_CAPABILITY_STATS}:
            raise ValueError(f"unknown capability {capability!r}")
        if capability == "snapshot":
            # The one family of drivers that has snapshots only when told so.
            return self.configuration.safe_get("nfs_snapshot_support") is not False or not _is_nfs(self.driver)
        if capability in ("copy_in_use", "snapshots_in_use"):
            # Those whose volumes are files: they ask Nova to copy one that runs, and a snapshot makes it qcow2.
            return driver_classes.attribute(self.driver, "_create_snapshot_online") is None
        if capability == "online_extend" and self.driver.extend_volume.__module__ == "cinder.volume.drivers.nfs":
            # It refuses, and its stats do not say so (Launchpad bug 1870367).
            return False
        method = _CAPABILITY_METHODS.get(capability)
        if method is not None and not driver_classes.implements(self.driver, method):
            return False
        if capability in _CAPABILITY_STATS:
            return self._reports(*_CAPABILITY_STATS[capability])
        return True

    def _reports(self, name: str, default: bool) -> bool:
        stats = self.stats()
        values = [pool.get(name, stats.get(name, default)) for pool in stats["pools"]] or [stats.get(name, default)]
        return any(str(value).lower() in ("true", "<is> true", "1") for value in values)

    # Stats.

    def stats(self, refresh: bool = False) -> dict[str, Any]:
        """The driver's stats, always with ``pools``. The last ones; ``refresh`` asks the driver and waits for it."""
        return self.driver_stats.refreshed() if refresh else self.driver_stats.last

    def allocated_gib(self, pool_name: str) -> int:
        """GiB of all volumes recorded in a pool, for drivers that do not count what they provisioned."""
        records = self.store.find(VolumeRecord, backend=self.id)
        return sum(record.size for record in records if (record.pool or self._pool_names[0]) == pool_name)

    # Work.

    def slot(self) -> AbstractContextManager[None]:
        """Hold one of the backend's ``max_concurrent_operations`` places; waits for one. Held around driver calls, and
        around what is recorded of them: who waits in vain leaves no trace.

        A thread that holds one may enter again without taking another. Raises BackendBusy after ``time_to_wait``.
        """
        return self._slots.held(before=Backend.before_driver_call, time_to_wait=Backend.time_to_wait)

    def validate_connector(self, connector_dict: dict[str, Any]) -> None:
        """Raise when a connector lacks what this driver needs (cinder.exception.InvalidConnectorException)."""
        self.driver.validate_connector(connector_dict)

    def create_volume(
        self, size: int, name: str = "", description: str = "", bootable: bool = False, **kwargs: Any
    ) -> "Volume":
        """Make a volume of ``size`` GiB; ``kwargs`` as for Volume: id, pool_name, extra_specs, qos_specs, intent..."""
        from csi_plugin.storage.volume import Volume

        volume = Volume(self, size=size, name=name, description=description, bootable=bootable, **kwargs)
        volume.create()
        return volume

    def manage_existing(self, reference: Mapping[str, str] | str, *, name: str = "", **kwargs: Any) -> "Volume":
        """Adopt a volume that the storage has already. ``reference``: as the driver names it, such as
        ``{"source-name": ...}``; a str stands for that.

        Raises what the driver raises (ManageExistingInvalidReference, ManageExistingAlreadyManaged...); nothing is
        recorded then.
        """
        from csi_plugin.storage import adoption

        wanted = {"source-name": reference} if isinstance(reference, str) else dict(reference)
        return adoption.manage_existing(self, wanted, name=name, **kwargs)

    def manageable_volumes(self) -> list[dict[str, Any]]:
        """The volumes in the storage as the driver lists them: reference, size (GiB), safe_to_manage, reason_not_safe,
        cinder_id, extra_info. Raises NotImplementedError for a driver that cannot list."""
        from csi_plugin.storage import adoption

        return adoption.manageable_volumes(self)

    def create_group(
        self,
        name: str = "",
        volumes: Sequence["Volume"] = (),
        group_specs: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> "Group":
        """Make a group of volumes of this backend; ``group_specs`` as of a Cinder group type."""
        from csi_plugin.storage.group import Group

        group = Group(self, name=name, volumes=volumes, group_specs=dict(group_specs or {}), **kwargs)
        group.create()
        return group

    # Volumes, as cinderlib shows them.

    @property
    def volumes(self) -> "list[Volume]":
        """The backend's volumes; read once, ``refresh`` reads them again."""
        with self._volumes_lock:
            if self._volumes is None:
                self._volumes = self.volumes_filtered()
            return self._volumes

    def volumes_filtered(self, volume_id: str | None = None, volume_name: str | None = None) -> "list[Volume]":
        from csi_plugin.storage.volume import Volume

        # From the store, not from the plugin: a third party's plugin holds secrets sealed and knows no revisions.
        wanted: dict[str, Any] = {"backend": self.id, "display_name": volume_name or None}
        if not volume_id:
            return [Volume.from_record(record) for record in self.store.find(VolumeRecord, **wanted)]
        record = self.store.get(VolumeRecord, volume_id)
        if record is None or record.backend != self.id or (volume_name and record.display_name != volume_name):
            return []
        return [Volume.from_record(record)]

    def refresh(self) -> None:
        """Read the volumes again if they have been read."""
        with self._volumes_lock:
            if self._volumes is not None:
                self._volumes = self.volumes_filtered()

    def _volume_created(self, volume: "Volume") -> None:
        """The driver has made a volume; called by what makes them."""
        self.reservations.settle(volume._ovo.host.partition("#")[2], volume._ovo.size)
        self.driver_stats.volumes_changed()
        with self._volumes_lock:
            if self._volumes is not None and all(known.id != volume.id for known in self._volumes):
                self._volumes.append(volume)

    def _volume_removed(self, volume: "Volume") -> None:
        """The driver has removed a volume; called by what removes them."""
        self.driver_stats.volumes_changed()
        with self._volumes_lock:
            if self._volumes is not None:
                self._volumes = [known for known in self._volumes if known.id != volume.id]

    # Serialisation.

    @property
    def json(self) -> dict[str, Any]:
        return self._serialized("json")

    @property
    def jsons(self) -> str:
        return json.dumps(self.json)

    @property
    def dump(self) -> dict[str, Any]:
        return self._serialized("dump")

    @property
    def dumps(self) -> str:
        return json.dumps(self.dump)

    def _serialized(self, form: str) -> dict[str, Any]:
        volumes = [getattr(volume, form) for volume in self.volumes]
        if self.output_all_backend_info:
            # Once is enough for the whole configuration.
            for volume in volumes:
                volume["backend"] = {"volume_backend_name": self.id}
        return {"class": "Backend", "backend": self.config, "volumes": volumes}

    @classmethod
    def load(cls, json_src: Mapping[str, Any] | str, save: bool = False) -> "Backend | str":
        """The backend of a dump, made when it is not there and the dump has its whole configuration. Its volumes are
        the dump's; ``save`` stores them. Without backend or configuration: an error, or with
        ``fail_on_missing_backend=False`` its name.
        """
        from csi_plugin.storage.volume import Volume

        data = json.loads(json_src) if isinstance(json_src, str) else json_src
        backend = cls.load_backend(data["backend"])
        volumes = data.get("volumes")
        if volumes:
            loaded = [Volume.load(volume, save) for volume in volumes]
            if isinstance(backend, Backend):
                backend._volumes = loaded
        return backend

    @classmethod
    def load_backend(cls, backend_data: Mapping[str, Any]) -> "Backend | str":
        name: str = backend_data["volume_backend_name"]
        if name in cls.backends:
            return cls.backends[name]
        if len(backend_data) > 1:
            return cls(**backend_data)
        if cls.fail_on_missing_backend:
            raise LookupError(f"Backend {name} not present in system or json.")
        return name

    # What all backends share.

    @classmethod
    def global_setup(
        cls,
        file_locks_path: str | None = None,
        root_helper: str = "sudo",
        suppress_requests_ssl_warnings: bool = True,
        disable_logs: bool = True,
        non_uuid_ids: bool = False,
        output_all_backend_info: bool = False,
        project_id: str | None = None,
        user_id: str | None = None,
        persistence_config: Mapping[str, Any] | None = None,
        fail_on_missing_backend: bool = True,
        host: str | None = None,
        sealing_keys: Sequence[bytes] | None = None,
        **cinder_config_params: Any,
    ) -> None:
        """Set up the library, once and before the first Backend (which does it with defaults otherwise).

        ``file_locks_path``: directory of lock files, shared by the processes that use the same storage (default:
        ``locks`` in Cinder's ``state_path``); ``root_helper``: what runs commands as root when this process is not
        root; ``disable_logs``: silence the loggers of Cinder and its libraries, and only those; ``non_uuid_ids``:
        accept ids that are no UUIDs; ``output_all_backend_info``: dumps hold the backends' whole configuration;
        ``project_id`` and ``user_id``: recorded as the owner of what is made; ``persistence_config``: where metadata is
        kept (see ``set_persistence``); ``fail_on_missing_backend``: loading an object of an unknown backend is an
        error; ``host``: the name under which volumes are recorded (default: this machine's); ``sealing_keys``: keys
        that seal secret fields at rest (see csi_plugin.persistence.sealing; without any they are stored in clear);
        every other argument: an option of Cinder's [DEFAULT] section, or ``group.option``.

        Raises RuntimeError when it was done before, ValueError for an ill-typed option and InvalidPersistence.
        """
        with _NEW:
            if Backend.global_initialization:
                raise RuntimeError("Already setup")
            Backend.fail_on_missing_backend = fail_on_missing_backend
            Backend.output_all_backend_info = output_all_backend_info
            Backend.non_uuid_ids = non_uuid_ids
            Backend.project_id = project_id or runtime.DEFAULT_PROJECT_ID
            Backend.user_id = user_id or runtime.DEFAULT_USER_ID
            Backend._sealing_keys = sealing_keys
            runtime.configure(
                locks_path=file_locks_path,
                root_helper=root_helper,
                suppress_ssl_warnings=suppress_requests_ssl_warnings,
                disable_logs=disable_logs,
                non_uuid_ids=non_uuid_ids,
                project_id=project_id,
                user_id=user_id,
                host=host,
                options=cinder_config_params,
            )
            cls._use_persistence(persistence_config)
            Backend.global_initialization = True

    @classmethod
    def set_persistence(cls, persistence_config: Mapping[str, Any] | None) -> None:
        """Keep metadata elsewhere from now on. Nothing is copied: ``dump`` and ``load(..., save=True)`` do that.

        ``persistence_config``: ``storage`` (a plugin's name, class or instance; memory by default) and its arguments.
        Raises RuntimeError before the set-up, and InvalidPersistence; the plugin in use stays then.
        """
        with _NEW:
            if not Backend.global_initialization:
                raise RuntimeError("set_persistence can only be called after the library has been set up")
            cls._use_persistence(persistence_config)
            for backend in cls.backends.values():
                with backend._volumes_lock:
                    backend._volumes = None

    @classmethod
    def _use_persistence(cls, persistence_config: Mapping[str, Any] | None) -> None:
        plugin = registry.load_plugin(persistence_config)
        store = _as_store(plugin)
        if Backend._sealing_keys:
            store = SealingStore(store, Sealer(Backend._sealing_keys))
        else:
            _warn_of_clear_secrets(plugin)
        Backend.persistence, Backend.store = plugin, store
        if getattr(plugin, "db", None) is None:
            database.use_store(store)
        else:
            database.use_cinder_layer()

    @staticmethod
    def list_supported_drivers(output_version: int = 1) -> dict[str, dict[str, Any]]:
        """Cinder's volume drivers by class name; see ``driver_catalogue.supported_drivers``."""
        return driver_catalogue.supported_drivers(output_version)


def setup(*args: Any, **kwargs: Any) -> None:
    """``Backend.global_setup`` under its short name."""
    Backend.global_setup(*args, **kwargs)


def _check_name(name: str) -> None:
    """Cinder writes host@backend#pool, and the name becomes a section of its configuration."""
    if not isinstance(name, str) or not name or any(character in "@#" or character.isspace() for character in name):
        raise ValueError(f"volume_backend_name must be text without '@', '#' and white space, not {name!r}")


def _as_store(plugin: RecordStore | PersistenceDriverBase) -> RecordStore:
    from csi_plugin.storage import codec

    if isinstance(plugin, BuiltinPlugin):
        plugin.codec = codec
    if isinstance(plugin, RecordStore):
        return plugin
    from csi_plugin.storage.compatibility.cinderlib_plugin_store import ObjectPluginStore

    return ObjectPluginStore(plugin, codec)


_warned_of_clear_secrets = False


def _warn_of_clear_secrets(plugin: Any) -> None:
    global _warned_of_clear_secrets
    from csi_plugin.persistence.memory import MemoryPersistence

    if not _warned_of_clear_secrets and not isinstance(plugin, MemoryPersistence):
        _warned_of_clear_secrets = True
        LOG.warning("secrets of the storage (CHAP passwords, keyrings) are stored in clear: no sealing_keys were given")


def _is_nfs(driver: Any) -> bool:
    return any(cls.__name__ == "RemoteFSDriver" for cls in driver.__class__.__mro__)
