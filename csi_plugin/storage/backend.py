"""Backend: one configured Cinder driver."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import csi_plugin.storage.connection  # loaded so that each class can be looked up by its records
import csi_plugin.storage.group_snapshot
import csi_plugin.storage.key_value
import csi_plugin.storage.snapshot  # noqa: F401
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import ConnectionRecord
from csi_plugin.storage import adoption, changed_storage, library_setup, shared_storage, storage_identity
from csi_plugin.storage.backend_configuration import DEFAULT_CONCURRENCY, BackendConfiguration
from csi_plugin.storage.backend_json import BackendJSON
from csi_plugin.storage.backend_volumes import BackendVolumes
from csi_plugin.storage.cinder import (
    driver_calls,
    driver_capabilities,
    driver_catalogue,
    driver_start,
    driver_stats,
    options,
    qos,
    runtime,
)
from csi_plugin.storage.cinder.adaptations import storage_places
from csi_plugin.storage.cinder.driver_answers import exits_as_errors
from csi_plugin.storage.cinder.driver_stats import DriverStats
from csi_plugin.storage.cinder.inventory import Inventory
from csi_plugin.storage.cinder.reservations import Reservations
from csi_plugin.storage.cinder.slots import Slots
from csi_plugin.storage.group import Group
from csi_plugin.storage.library_state import STATE, StateClass, register_class, state_attribute
from csi_plugin.storage.volume import Volume


class Backend(BackendJSON, metaclass=StateClass):
    """A storage backend, as cinderlib documented it; everything that is not here is looked up in the driver.

    Several live in one process, one per ``volume_backend_name``. Thread-safe.
    """

    backends: ClassVar[dict[str, "Backend"]] = state_attribute("backends")
    """The backends that are up, by name."""
    global_initialization: ClassVar[bool] = state_attribute("is_set_up")
    persistence: ClassVar[Any] = state_attribute("persistence")
    """The persistence plugin that the user configured."""
    store: ClassVar[RecordStore] = state_attribute("store")
    """The plugin as records, with secret fields in clear: what the library itself works on."""
    fail_on_missing_backend: ClassVar[bool] = state_attribute("fail_on_missing_backend")
    output_all_backend_info: ClassVar[bool] = state_attribute("output_all_backend_info")
    non_uuid_ids: ClassVar[bool] = state_attribute("non_uuid_ids")
    project_id: ClassVar[str | None] = state_attribute("project_id")
    user_id: ClassVar[str | None] = state_attribute("user_id")
    reservations: Reservations
    is_suspended: bool
    """Whether it takes no new volumes; everything else goes on. May be set."""
    _start_lock: threading.RLock

    def __new__(cls, volume_backend_name: str, **driver_cfg: Any) -> "Backend":
        wanted = BackendConfiguration.from_arguments(volume_backend_name, **driver_cfg)
        with STATE.lock:
            existing = STATE.backends.get(volume_backend_name) or STATE.starting_backends.get(volume_backend_name)
            if existing is None:
                return cls._announce(wanted)
            if wanted != existing._backend_configuration:
                raise ValueError(f"Backend named {volume_backend_name} already exists with a different configuration")
            return existing

    @classmethod
    def _announce(cls, wanted: BackendConfiguration) -> "Backend":
        """A new object that is being started; with STATE.lock held."""
        new = super().__new__(cls)
        new._backend_configuration = wanted
        new._start_lock = threading.RLock()
        STATE.starting_backends[wanted.name] = new
        return new

    def __init__(
        self,
        volume_backend_name: str,
        *,
        topology: Sequence[Mapping[str, str]] = (),
        max_concurrent_operations: int = DEFAULT_CONCURRENCY,
        accept_missing_volumes: bool = False,
        strict: bool = False,
        secret_options: Collection[str] = (),
        **driver_cfg: Any,
    ) -> None:
        """Start a driver.

        ``driver_cfg``: ``volume_driver`` (its class path) and the driver's options; ``topology``: CSI segments from
        which the backend's volumes can be reached (everywhere when empty); ``max_concurrent_operations``: driver calls
        that may run at once; ``accept_missing_volumes``: see replace(); ``strict``: an unknown option is an error
        instead of a warning; ``secret_options``: names of options whose values no message quotes, besides those that
        Cinder defines so.

        The same name and arguments again give the same object. Raises ValueError for a name in use or not usable, for
        an ill-typed option (and an unknown one when ``strict``), and whatever the driver's own start raises.
        """
        with self._start_lock:
            with STATE.lock:
                if STATE.backends.get(volume_backend_name) is self:
                    return
                # A start that failed in another thread is attempted again here, unless a third one has begun to.
                if STATE.starting_backends.setdefault(volume_backend_name, self) is not self:
                    raise ValueError(f"Backend named {volume_backend_name} is being started by another thread")
            try:
                with STATE.lock:
                    if not STATE.is_set_up:
                        library_setup.global_setup()
                _check_name(volume_backend_name)
                self.topology = [dict(segments) for segments in self._backend_configuration.topology]
                self._prepare()
                self._start()
                with STATE.lock:
                    STATE.backends[volume_backend_name] = self
                    others = [(other.id, other._places) for other in STATE.backends.values()]
                shared_storage.warn(self.id, self._places, others)
            finally:
                with STATE.lock:
                    del STATE.starting_backends[volume_backend_name]

    def _prepare(self) -> None:
        max_concurrent_operations = self._backend_configuration.max_concurrent_operations
        if max_concurrent_operations < 1:
            raise ValueError("max_concurrent_operations must be at least 1")
        self._slots = Slots(self.id, max_concurrent_operations)
        replaced = STATE.backends.get(self.id)
        self.reservations = Reservations() if replaced is None else replaced.reservations
        self.is_suspended = False if replaced is None else replaced.is_suspended
        self._known_volumes = BackendVolumes(self.id)

    def _start(self) -> None:
        self.host = f"{runtime.host()}@{self.id}"
        with exits_as_errors():
            self._start_driver()

    def _start_driver(self) -> None:
        self.driver = driver_start.new_driver(self._backend_configuration, host=self.host)
        self.extra_capabilities = driver_stats.extra_capabilities(self.driver)
        present = STATE.backends.get(self.id)

        def check_storage() -> None:
            # In another's place, what is found afterwards is compared with what that one has.
            if present is None and not self.accepts_missing_volumes:
                storage_identity.check_is_present(self.driver, backend=self.id)

        driver_start.start(self.calls, before_storage=check_storage)
        self.driver_stats = DriverStats(
            self.calls, self.id, recorded_gib=lambda: STATE.store.recorded_gib(backend=self.id)
        )
        self.inventory = Inventory(
            self.calls, self.id, self.slot, expected=lambda: changed_storage.names_to_expect(self.id)
        )
        self._places = storage_places.places_of(self.driver, self.stats())
        self._pool_names = tuple(pool["pool_name"] for pool in self.stats()["pools"])
        if not self.accepts_missing_volumes:
            changed_storage.check_has_volumes(self, present, self._backend_configuration)
        if STATE.only_looks:
            return
        storage_identity.remember(self.driver, backend=self.id)
        changed_storage.remember(self.id, self._backend_configuration)
        driver_start.restore(self.calls, self.host, _attached_connectors())

    @classmethod
    def replace(cls, volume_backend_name: str, **driver_cfg: Any) -> "Backend":
        """Start a driver in place of the one that serves under this name; arguments as for a new Backend.

        The present driver serves until the new one is up, and ends what it has begun; it goes on as if nothing had
        happened when the new one cannot start, which raises as a new Backend does. Without a present one, this is a new
        Backend. The same arguments again give the present one.

        Raises ValueError when the new one does not find the volumes that are recorded, as at another array, unless
        ``accept_missing_volumes``.
        """
        wanted = BackendConfiguration.from_arguments(volume_backend_name, **driver_cfg)
        with STATE.lock:
            present = STATE.backends.get(volume_backend_name)
            if present is not None and present._backend_configuration == wanted:
                return present
            if present is not None:
                if volume_backend_name in STATE.starting_backends:
                    raise ValueError(f"Backend named {volume_backend_name} is being started by another thread")
                new = cls._announce(wanted)
        # Without the lock: a driver may wait for its storage as it starts, and others start meanwhile.
        if present is None:
            return cls(volume_backend_name, **driver_cfg)
        options.detach(present.configuration)
        try:
            new.__init__(volume_backend_name, **driver_cfg)  # type: ignore[misc]
        except BaseException:
            # Drivers that look options up by the backend's name shall find the old ones.
            options.refill(volume_backend_name, present._backend_configuration.driver_options())
            raise
        return new

    def close(self) -> None:
        """Forget this backend: its name is free again. Its volumes and their records stay. Repeatable."""
        with STATE.lock:
            if STATE.backends.get(self.id) is self:
                del STATE.backends[self.id]
                options.forget(self.id)

    @property
    def calls(self) -> Any:
        """The driver, for calls of what it does: a span each, and none begins in a controller that no longer leads."""
        return driver_calls.guarded(self.driver, before=STATE.before_driver_call, backend=self.id)

    # What it is.

    @property
    def configuration(self) -> Any:
        """The driver's configuration object (cinder.volume.configuration)."""
        return self.driver.configuration

    @property
    def pool_names(self) -> tuple[str, ...]:
        """The pools of the storage, those that it had when the driver started first: the first one is the default."""
        present = (pool["pool_name"] for pool in self.stats()["pools"])
        return tuple(dict.fromkeys((*self._pool_names, *present)))

    @property
    def accepts_missing_volumes(self) -> bool:
        """Whether a person said that its storage may lack volumes that are recorded."""
        return self._backend_configuration.accepts_missing_volumes

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
        return driver_capabilities.supports(self.driver, capability, stats=self.stats())

    def check_qos(self, qos_specs: Mapping[str, str]) -> None:
        """Raise ValueError for QoS specs that the driver does not know, or that should be numbers and are not."""
        qos.check(self.driver, qos_specs, stats=self.stats())

    # Stats.

    def stats(self, refresh: bool = False) -> dict[str, Any]:
        """The driver's stats, always with ``pools``. The last ones; ``refresh`` asks the driver and waits for it."""
        return self.driver_stats.refresh() if refresh else self.driver_stats.last

    # Work.

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the backend's ``max_concurrent_operations`` slots; waits for one. Held around driver calls, and
        around what is recorded of them: who waits in vain leaves no trace.

        A thread that holds one may enter again without taking another. Raises BackendBusy after ``time_to_wait``.
        """
        with self._slots.hold(before=STATE.before_driver_call, time_to_wait=STATE.time_to_wait), exits_as_errors():
            yield

    def validate_connector(self, connector_dict: dict[str, Any]) -> None:
        """Raise when a connector lacks what this driver needs (cinder.exception.InvalidConnectorException)."""
        self.calls.validate_connector(connector_dict)

    def create_volume(
        self, size: int, name: str = "", description: str = "", bootable: bool = False, **kwargs: Any
    ) -> Volume:
        """Create a volume of ``size`` GiB; ``kwargs`` as for Volume: id, pool_name, extra_specs, intent..."""
        volume = Volume(self, size=size, name=name, description=description, bootable=bootable, **kwargs)
        volume.create()
        return volume

    def manage_existing(
        self, reference: Mapping[str, str] | str, *, name: str = "", grow: bool = False, **kwargs: Any
    ) -> Volume:
        """Adopt a volume that the storage has already. ``reference``: as the driver names it, such as
        ``{"source-name": ...}``; a str stands for that. ``grow``: one that is no whole number of GiB, to the next one.

        Raises what the driver raises (ManageExistingInvalidReference, ManageExistingAlreadyManaged...); nothing is
        recorded then.
        """
        wanted = {"source-name": reference} if isinstance(reference, str) else dict(reference)
        return adoption.manage_existing(self, wanted, name=name, grow=grow, **kwargs)

    def manageable_volumes(self) -> list[dict[str, Any]]:
        """The volumes in the storage as the driver lists them: reference, size (GiB), safe_to_manage, reason_not_safe,
        cinder_id, extra_info. Raises NotImplementedError for a driver that cannot list."""
        return adoption.manageable_volumes(self)

    def create_group(
        self,
        name: str = "",
        volumes: Sequence[Volume] = (),
        group_specs: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Group:
        """Create a group of volumes of this backend; ``group_specs`` as of a Cinder group type."""
        group = Group(self, name=name, volumes=volumes, group_specs=dict(group_specs or {}), **kwargs)
        group.create()
        return group

    # Volumes, as cinderlib shows them.

    @property
    def volumes(self) -> list[Volume]:
        """The backend's volumes; read once, ``refresh`` reads them again."""
        return self._known_volumes.all()

    def volumes_filtered(self, volume_id: str | None = None, volume_name: str | None = None) -> list[Volume]:
        """The backend's volumes of an id, a name or both, read at each call."""
        return self._known_volumes.find(volume_id, volume_name)

    def refresh(self) -> None:
        """Read the volumes again if they have been read."""
        self._known_volumes.refresh()

    def _volume_created(self, volume: Volume) -> None:
        """The driver has created a volume; called by what creates them."""
        self.reservations.settle(volume._ovo.host.partition("#")[2], volume._ovo.size)
        self.driver_stats.volumes_changed()
        self._known_volumes.add(volume)

    def _volume_removed(self, volume: Volume) -> None:
        """The driver has removed a volume; called by what removes them."""
        self.driver_stats.volumes_changed()
        self._known_volumes.remove(volume)

    # What all backends share.

    global_setup = staticmethod(library_setup.global_setup)
    set_persistence = staticmethod(library_setup.set_persistence)
    list_supported_drivers = staticmethod(driver_catalogue.supported_drivers)


register_class(Backend, json_name="Backend")

setup = library_setup.global_setup


def _attached_connectors() -> dict[str, list[Mapping[str, Any]]]:
    """The connectors that volumes are exported to, by the volume's id."""
    attached: dict[str, list[Mapping[str, Any]]] = {}
    for record in STATE.store.find(ConnectionRecord):
        if record.attach_status == "attached":
            attached.setdefault(record.volume_id, []).append(record.connector or {})
    return attached


def _check_name(name: str) -> None:
    """Cinder writes host@backend#pool, and the name becomes a section of its configuration."""
    if not isinstance(name, str) or not name or name != name.strip() or not name.isprintable() or set(name) & set("@#"):
        raise ValueError(
            "volume_backend_name must be text of printable characters without '@' and '#', and without blanks at its "
            f"ends, not {name!r}"
        )
