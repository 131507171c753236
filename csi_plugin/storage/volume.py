"""Volume: creation, extension, cloning, attachment and what else can be done to one."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from oslo_config import cfg

from csi_plugin import attachment
from csi_plugin.error_text import error_text
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import (
    TRUE_BYTES,
    ConnectionRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage import codec, deferred_deletion, json_form, volume_deletion, volume_export, volume_retype
from csi_plugin.storage.cinder import cinder_utils, driver_calls, exception, objects
from csi_plugin.storage.cinder.driver_answers import take_update
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import STATE, class_of, find_backend
from csi_plugin.storage.live_list import LiveList
from csi_plugin.storage.resource import NamedResource, in_slot
from csi_plugin.storage.snapshot_order import check_is_latest
from csi_plugin.storage.volume_checks import check_can_be_connected, check_can_be_copied, check_has_data, whole_size
from csi_plugin.storage.volume_children import CONNECTIONS, SNAPSHOTS, keep_loaded, store_loaded
from csi_plugin.units import GIB

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend
    from csi_plugin.storage.connection import Connection
    from csi_plugin.storage.snapshot import Snapshot

_EXTENDABLE = ("available", "in-use", "error_extending")
_NOT_CREATED = ("creating", "error")
# A clone takes over what describes the data and its owner, not what identifies the source on the backend.
_INHERITED = (
    "size",
    "host",
    "display_name",
    "display_description",
    "bootable",
    "multiattach",
    "metadata",
    "glance_metadata",
    "user_id",
    "project_id",
    "availability_zone",
    "encryption_key_id",
)


class Volume(NamedResource):
    """A volume of a backend. Sizes are GiB.

    ``backend_or_vol``: a Backend, the name of one, or a volume to take size, pool and description from.
    """

    OVO_CLASS: ClassVar[Any] = objects.Volume
    RECORD_CLASS: ClassVar[type[Record]] = VolumeRecord
    SIMPLE_JSON_IGNORE: ClassVar[tuple[str, ...]] = ("snapshots", "volume_attachment")
    LAZY_PROPERTIES: ClassVar[tuple[str, ...]] = ("snapshots", "connections")
    DEFAULT_FIELDS_VALUES: ClassVar[dict[str, Any]] = {
        "size": 1,
        "status": "creating",
        "attach_status": "detached",
    }

    def __init__(self, backend_or_vol: "Backend | str | Volume", pool_name: str | None = None, **kwargs: Any) -> None:
        backend: Any = backend_or_vol
        self.local_attach: Connection | None = None
        self._snapshots: list[Snapshot] | None = None
        self._connections: list[Connection] | None = None
        if "__ovo" in kwargs:
            super().__init__(backend, **kwargs)
            for children in (SNAPSHOTS, CONNECTIONS):
                children.take_from_object(self)
            return
        if isinstance(backend_or_vol, Volume):
            backend = backend_or_vol.backend
            _inherit(backend_or_vol, kwargs)
        backend = find_backend(backend)
        extra_specs = kwargs.pop("extra_specs", None) or {}
        qos_specs = kwargs.pop("qos_specs", None) or {}
        for name in ("metadata", "admin_metadata", "glance_metadata"):
            kwargs[name] = dict(kwargs.get(name) or {})
        kwargs["size"] = whole_size(kwargs.get("size", 1))
        kwargs["host"] = _host(backend, pool_name, given=kwargs.get("host"))
        kwargs.setdefault("volume_attachment", objects.VolumeAttachmentList(context=CONTEXT, objects=[]))
        kwargs.setdefault("snapshots", objects.SnapshotList(context=CONTEXT, objects=[]))
        super().__init__(backend, **kwargs)
        self._snapshots, self._connections = LiveList(), LiveList()
        if extra_specs or qos_specs:
            self._ovo.volume_type_id = self._ovo.id
            self._ovo.volume_type = codec.volume_type(self._ovo.id, extra_specs, qos_specs)

    # Records

    @classmethod
    def get_by_id(cls, volume_id: Any) -> Self:
        """The volume of that id, as it is stored. Raises VolumeNotFound."""
        return super().get_by_id(volume_id)

    @classmethod
    def get_by_name(cls, volume_name: str) -> list[Self]:
        """The volumes of that name; names need not be unique."""
        return super().get_by_name(volume_name)

    @classmethod
    def from_record(cls, record: VolumeRecord) -> Self:
        volume = cls(record.backend, __ovo=codec.volume_to_ovo(record))
        volume.intent = record.intent
        volume._note_stored(record)
        return volume

    @property
    def record(self) -> VolumeRecord:
        record = codec.volume_to_record(self._ovo)
        record.intent, record.revision = self.intent, self.revision
        return record

    @classmethod
    def from_loaded(cls, backend: Any, ovo: Any, extras: json_form.Extras, *, save: bool) -> Self:
        volume = cls(backend, __ovo=ovo)
        for relative in (volume, *volume.loaded_relatives()):
            json_form.apply_extras(relative, extras)
        if save:
            store_loaded(volume)
        return volume

    def loaded_relatives(self) -> "list[Snapshot | Connection]":
        return [*(self._snapshots or ()), *(self._connections or ())]

    @classmethod
    def not_found(cls, resource_id: str) -> Any:
        return exception.VolumeNotFound(volume_id=resource_id)

    def refresh(self) -> None:
        """Read the volume again. Raises VolumeNotFound."""
        fresh = self.from_record(self.stored_record(self._ovo.id))
        if self._snapshots is not None:
            _ = fresh.snapshots
        if self._connections is not None:
            _ = fresh.connections
        fresh.local_attach = self.local_attach
        vars(self).clear()
        vars(self).update(vars(fresh))
        for relative in self.loaded_relatives():
            relative.volume = self

    # Relatives

    @property
    def snapshots(self) -> "list[Snapshot]":
        """The volume's snapshots; read once, ``refresh`` reads them again."""
        return SNAPSHOTS.read(self)

    @property
    def connections(self) -> "list[Connection]":
        """The volume's connections; read once, ``refresh`` reads them again."""
        return CONNECTIONS.read(self)

    # Creating and deleting

    def create(self) -> None:
        """Create the volume on its backend. The intent is stored first; a failure leaves status ``error``.

        Raises RecordExists when a volume of this id is stored, InvalidVolume when this one is created already, and what
        the driver raises (with ``resource``).
        """
        if self._ovo.status not in _NOT_CREATED:
            raise exception.InvalidVolume(reason=f"volume {self._ovo.id} is {self._ovo.status}: it exists already")
        self._create(lambda driver: driver_calls.create_volume(driver, self._ovo))

    def clone(self, **new_vol_attrs: Any) -> "Volume":
        """Create a volume with this one's data. ``size`` may be larger; other attributes as for Volume."""
        check_has_data(self, "cloned")
        check_can_be_copied(self, "cloned")
        clone = Volume(self, source_volid=self._ovo.id, **new_vol_attrs)
        if clone.size < self._ovo.size:
            raise exception.InvalidInput(reason=f"size must be at least {self._ovo.size} GiB, the size of the source")
        clone._create(lambda driver: driver_calls.clone_volume(driver, clone._ovo, self._ovo))
        return clone

    @in_slot
    def _create(self, call: Callable[[Any], Any]) -> None:
        self.save()
        failpoint("create.recorded")
        try:
            update = self._call_driver(call)
            failpoint("create.driver_done")
            take_update(self._ovo, update)
        except Exception:
            # Drivers raise anything. What they may have created is known by this record.
            self._ovo.status = "error"
            self.save()
            raise
        self._ovo.status, self._ovo.launched_at = "available", datetime.now(UTC)
        self._set_phase(Phase.READY)
        self.save()
        failpoint("create.saved")
        self.backend._volume_created(self)

    def create_snapshot(self, name: str = "", description: str = "", **kwargs: Any) -> "Snapshot":
        """Take a snapshot; ``kwargs`` as for Snapshot (id, metadata, intent...)."""
        check_has_data(self, "snapshotted")
        snapshot: Snapshot = class_of(SnapshotRecord)(self, name=name, description=description, **kwargs)
        try:
            snapshot.create()
        finally:
            SNAPSHOTS.add(self, snapshot)
        return snapshot

    def manage_existing_snapshot(
        self, reference: Mapping[str, str] | str, *, name: str = "", **kwargs: Any
    ) -> "Snapshot":
        """Adopt a snapshot of this volume that the storage has already; ``reference`` as for Backend.manage_existing.

        Raises what the driver raises (ManageExistingInvalidReference...); nothing is recorded then.
        """
        wanted = {"source-name": reference} if isinstance(reference, str) else dict(reference)
        snapshot: Snapshot = class_of(SnapshotRecord)(self, name=name, **kwargs)
        snapshot.manage(wanted)
        SNAPSHOTS.add(self, snapshot)
        return snapshot

    @in_slot
    def delete(self, deferred: bool = False) -> None:
        """Delete the volume; one that has been deleted is no error.

        One that has snapshots, or that the driver says is busy (clones need it), is refused with InvalidVolume or
        VolumeIsBusy. With ``deferred`` it counts as deleted at once instead, and the backend's volume goes with the
        last dependant. An attached one is always refused.
        """
        volume_deletion.delete(self, deferred=deferred)

    def remove_inner_names(self) -> None:
        """For a volume that came to nothing: remove what its driver may have left under names of its own, such as the
        snapshot of its source that a clone begins with."""
        self._call_driver(lambda driver: driver_calls.remove_inner_names(driver, self._ovo))

    def finish_deferred(self) -> bool:
        """Delete a deferred volume from the backend if nothing needs it any more; whether it is gone.

        Never raises for a driver's error: the record keeps it as its condition, and a later attempt may succeed. Safe
        to call from several threads of one process.
        """
        return deferred_deletion.finish_deferred(self._ovo.id)

    @in_slot
    def unmanage(self) -> None:
        """Forget the volume and leave it on the backend. Refused with InvalidVolume while it has dependants."""
        keep_loaded(self)
        for kind in (ConnectionRecord, SnapshotRecord):
            if STATE.store.find(kind, volume_id=self._ovo.id, limit=1):
                raise exception.InvalidVolume(reason=f"volume {self._ovo.id} has {kind.KIND}s; remove them first")
        was, self._ovo.status = self._ovo.status, "unmanaging"
        self._save_deletion(exception.VolumeNotFound(volume_id=self._ovo.id))
        failpoint("unmanage.recorded")
        try:
            self._call_driver(lambda driver: driver_calls.unmanage_volume(driver, self._ovo))
        except Exception:
            # Drivers raise anything; the volume stays ours.
            self._ovo.status = was
            self.save()
            raise
        deferred_deletion.forget(self)

    # Changing

    @in_slot
    def extend(self, size: int) -> Any:
        """Grow the volume to ``size`` GiB, also while it is in use. Returns its new size in bytes.

        The present size is no error, and nothing is done. Raises InvalidInput for a smaller one and InvalidVolume in a
        state that does not allow it.
        """
        size = whole_size(size)
        volume = self._ovo
        if size < volume.size:
            raise exception.InvalidInput(reason=f"size must not be less than {volume.size} GiB, the present size")
        if volume.status not in _EXTENDABLE:
            raise exception.InvalidVolume(reason=f"volume {volume.id} is {volume.status}, which cannot be extended")
        if size == volume.size and volume.status != "error_extending":
            return size * GIB
        if volume.status == "in-use" and not self.backend.supports("online_extend"):
            raise exception.InvalidVolume(
                reason=f"volume {volume.id} is in use, and backend {self.backend.id} extends only what is not"
            )
        was = volume.previous_status if volume.status == "error_extending" else volume.status
        volume.previous_status, volume.status = was, "extending"
        self.save()
        failpoint("expand.recorded")
        try:
            self._call_driver(lambda driver: driver_calls.extend_volume(driver, volume, size))
        except Exception as error:
            # Drivers raise anything; the volume is as it was.
            volume.status = "error_extending"
            self._set_phase(Phase.READY, f"it could not be extended, and has its former size: {error_text(error)}")
            self.save()
            raise
        failpoint("expand.driver_done")
        volume.size, volume.status, volume.previous_status = size, was or "available", None
        self._set_phase(Phase.READY)
        if volume.obj_attr_is_set("admin_metadata"):
            volume.admin_metadata.pop(TRUE_BYTES, None)
        self.save()
        failpoint("expand.saved")
        if volume.status == "in-use" and self.local_attach:
            return self.local_attach.extend()
        return size * GIB

    @in_slot
    def retype(self, *, extra_specs: dict[str, str] | None = None, qos_specs: dict[str, str] | None = None) -> None:
        """Give the volume other extra specs or QoS specs (None: as they are), in place.

        Raises InvalidVolume when the driver says that it cannot do so without moving the data.
        """
        volume_retype.retype(self, extra_specs=extra_specs, qos_specs=qos_specs)

    @in_slot
    def revert(self, snapshot: "Snapshot") -> None:
        """Put the volume back to its latest snapshot.

        Raises InvalidVolume when it is not available, InvalidSnapshot for a snapshot of another volume or an older one,
        or one of which that cannot be told; NotImplementedError, with the volume as it was, by a driver that cannot.
        """
        if snapshot.volume_id != self._ovo.id:
            raise exception.InvalidSnapshot(reason=f"snapshot {snapshot.id} is not of volume {self._ovo.id}")
        if self._ovo.status != "available":
            raise exception.InvalidVolume(reason=f"volume {self._ovo.id} is {self._ovo.status}; it must be available")
        snapshot._check_references()
        check_is_latest(snapshot.id, STATE.store.find(SnapshotRecord, volume_id=self._ovo.id))
        if self._ovo.size != snapshot.volume_size:
            raise exception.InvalidVolume(
                reason=f"volume {self._ovo.id} was extended after snapshot {snapshot.id} was taken"
            )
        self._ovo.status = "reverting"
        self.save()
        try:
            update = self._call_driver(lambda driver: driver_calls.revert_volume(driver, self._ovo, snapshot._ovo))
            take_update(self._ovo, update)
        except NotImplementedError:
            # The driver has no such thing, at least not for this volume, and has done nothing.
            self._ovo.status = "available"
            self.save()
            raise
        except Exception:
            # Drivers raise anything; what the volume holds now is not known.
            self._ovo.status = "error"
            self.save()
            raise
        self._ovo.status = "available"
        self.save()

    # Connecting and attaching

    def connect(self, connector_dict: dict[str, Any], **ovo_fields: Any) -> "Connection":
        """Export the volume to the host of a connector (os-brick's connector properties).

        ``ovo_fields``: fields of the connection, such as ``id``, ``node_id``, ``attach_mode`` and ``use_multipath``. A
        second host may be connected while the first one is; that only one writes is the program's affair. A second
        connection of the same host needs a volume created with ``multiattach`` on a backend that allows it, or
        InvalidVolume is raised.
        """
        check_can_be_connected(
            self, connector_dict, connection_id=ovo_fields.get("id"), node_id=ovo_fields.get("node_id")
        )
        check_has_data(self, "connected")
        with self.backend.slot():
            connection: Connection = class_of(ConnectionRecord).connect(self, connector_dict, **ovo_fields)
        CONNECTIONS.add(self, connection)
        return connection

    @in_slot
    def disconnect(self, connection: "Connection", force: bool = False) -> None:
        """End the export to the host of a connection, and forget the connection; one that has ended is no error."""
        volume_export.end_export(connection, self, force=force)
        CONNECTIONS.remove(self, connection.id)

    def attach(self) -> "Connection":
        """Connect the volume to this host and return the connection, whose ``path`` is a block device."""
        configuration = self.backend.configuration
        properties = attachment.connector_properties(
            multipath=bool(configuration.use_multipath_for_image_xfer),
            enforce_multipath=bool(configuration.enforce_multipath_for_image_xfer),
            my_ip=cfg.CONF.my_ip,
            root_helper=cinder_utils.get_root_helper(),
        )
        connection = self.connect(properties)
        try:
            connection.attach()
        except Exception:
            # Whatever went wrong, the export must not stay.
            self.disconnect(connection)
            raise
        return connection

    def detach(self, force: bool = False, ignore_errors: bool = False) -> None:
        """End attach(). Raises NotLocal when the volume is not attached here.

        ``force`` disconnects even if the device cannot be removed cleanly (data may be lost), and raises the error
        afterwards; ``ignore_errors`` does not raise it, and with ``force`` none of the storage's.
        """
        volume_export.end_attachment(self, force=force, ignore_errors=ignore_errors)

    def cleanup(self) -> None:
        """Detach and disconnect everything, to get rid of a volume whatever was done with it."""
        for connection in list(self.connections):
            if connection.attached:
                connection.detach(force=True, ignore_errors=True)
            self.disconnect(connection, force=True)


def _inherit(source: Volume, kwargs: dict[str, Any]) -> None:
    for name in _INHERITED:
        if source._ovo.obj_attr_is_set(name):
            value = getattr(source._ovo, name)
            kwargs.setdefault(name, dict(value) if isinstance(value, dict) else value)
    for short in ("name", "description"):
        if short in kwargs:
            kwargs.pop(f"display_{short}", None)
    record = source.record
    kwargs.setdefault("extra_specs", record.extra_specs)
    kwargs.setdefault("qos_specs", record.qos_specs)


def _host(backend: Any, pool_name: str | None, *, given: Any) -> str:
    """Cinder's host@backend#pool: the given one, with the pool that is named, or this machine's."""
    if isinstance(backend, str):
        if given:
            return str(given)
        raise ValueError(f"backend {backend} is not set up")
    if pool_name is not None and pool_name not in backend.pool_names:
        raise ValueError(f"pool_name must be one of {', '.join(backend.pool_names)}, not {pool_name!r}")
    host, _, pool = str(given or f"{backend.host}#{backend.pool_names[0]}").partition("#")
    if host.partition("@")[2] != backend.id:
        raise ValueError(f"host must be HOST@{backend.id}#POOL, not {given!r}: the volume would be lost to its backend")
    return f"{host}#{pool_name or pool}" if pool_name or pool else host
