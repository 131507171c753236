"""Connection: a volume exported to a host, and attached there if that host is this one."""

from typing import TYPE_CHECKING, Any, ClassVar, Self

from csi_plugin import attachment
from csi_plugin.persistence.records import ConnectionRecord, Record
from csi_plugin.storage import codec, json_form, volume_export
from csi_plugin.storage.cinder import cinder_utils, connection_info, exception, objects
from csi_plugin.storage.exception import NotLocal
from csi_plugin.storage.volume import Volume
from csi_plugin.storage.volume_children import VolumeChild

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

DEVICE_SCAN_ATTEMPTS = 3
"""os-brick's default."""


class _InfoPart:
    """A part of ``connection_info`` as an attribute; absent is None."""

    def __init__(self, key: str, doc: str) -> None:
        self._key = key
        self.__doc__ = doc

    def __get__(self, connection: "Connection | None", owner: type) -> Any:
        return self if connection is None else _read_part(connection, self._key)

    def __set__(self, connection: "Connection", value: dict[str, Any] | None) -> None:
        _set_part(connection, self._key, value)


def _read_part(connection: "Connection", key: str) -> Any:
    ovo = connection._ovo
    info: Any = ovo.connection_info if ovo.obj_attr_is_set("connection_info") else None
    return info.get(key) if info else None


def _set_part(connection: "Connection", key: str, value: Any) -> None:
    # A new dictionary, so that the versioned object sees the change.
    ovo = connection._ovo
    info = dict(ovo.connection_info or {}) if ovo.obj_attr_is_set("connection_info") else {}
    if value or value is False:
        info[key] = value
    else:
        info.pop(key, None)
    ovo.connection_info = info


class Connection(VolumeChild):
    """Cinder's volume attachment. Its ``connection_info`` has what the driver returned under ``conn``, the host's
    connector properties under ``connector``, and the local device under ``device``.
    """

    OVO_CLASS: ClassVar[Any] = objects.VolumeAttachment
    RECORD_CLASS: ClassVar[type[Record]] = ConnectionRecord
    SIMPLE_JSON_IGNORE: ClassVar[tuple[str, ...]] = ("volume",)
    LAZY_PROPERTIES: ClassVar[tuple[str, ...]] = ("volume",)
    _backend: Any = None

    def __init__(self, backend: "Backend | str | None", *, volume: Volume | None = None, **kwargs: Any) -> None:
        self._volume: Volume | None = volume
        self.node_id: str | None = kwargs.pop("node_id", None)
        self.scan_attempts: int = kwargs.pop("device_scan_attempts", DEVICE_SCAN_ATTEMPTS)
        use_multipath: bool | None = kwargs.pop("use_multipath", None)
        if "status" in kwargs:
            kwargs["attach_status"] = kwargs.pop("status")
        self._connector: Any = None
        if "__ovo" not in kwargs and volume is not None:
            kwargs |= {"volume_id": volume.id, "volume": volume._ovo}
        super().__init__(backend, **kwargs)
        if volume is None and self._ovo.obj_attr_is_set("volume") and self._ovo.volume:
            self._volume = Volume(self.backend, __ovo=self._ovo.volume)
        if use_multipath is not None:
            self.use_multipath = use_multipath
        if not (self._ovo.obj_attr_is_set("attach_mode") and self._ovo.attach_mode):
            self._ovo.attach_mode = self.conn_info.get("data", {}).get("access_mode", "rw")
        if self._is_new and (data := self.conn_info.get("data")):
            self.conn_info = {**self.conn_info, "data": {**data, "access_mode": self._ovo.attach_mode}}

    # The backend is the volume's, which is read on access.

    @property
    def backend(self) -> Any:
        if self._backend is None:
            self._backend = self.volume.backend
        return self._backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    def _location_text(self) -> str:
        volume = vars(self).get("_volume")
        known = self._backend if volume is None else volume.backend
        ovo = vars(self).get("_ovo")
        if known is None and ovo is not None and ovo.obj_attr_is_set("volume_id"):
            return f" of volume {ovo.volume_id}"
        return f" on backend {getattr(known, 'id', known)}"

    @classmethod
    def get_by_id(cls, connection_id: Any) -> Self:
        """The connection of that id, as it is stored. Raises ConnectionNotFound."""
        return super().get_by_id(connection_id)

    @classmethod
    def from_record(cls, record: ConnectionRecord, *, volume: Volume | None = None) -> Self:
        backend = volume.backend if volume is not None else None
        connection = cls(backend, volume=volume, node_id=record.node_id, __ovo=codec.connection_to_ovo(record))
        connection._note_stored(record)
        if volume is not None:
            connection.volume = volume
        return connection

    @classmethod
    def from_volume_object(cls, volume: Volume, ovo: Any) -> Self:
        return cls(volume.backend, volume=volume, __ovo=ovo)

    @property
    def record(self) -> ConnectionRecord:
        record = codec.connection_to_record(self._ovo, node_id=self.node_id)
        record.revision = self.revision
        return record

    @classmethod
    def from_loaded(cls, backend: Any, ovo: Any, extras: json_form.Extras, *, save: bool) -> Self:
        connection = cls(backend, __ovo=ovo)
        json_form.apply_extras(connection, extras)
        if save:
            connection.save()
        return connection

    def extra_data(self) -> dict[str, Any]:
        return {"node_id": self.node_id} if self.node_id else {}

    def take_extra_data(self, data: dict[str, Any]) -> None:
        self.node_id = data.get("node_id")

    @classmethod
    def not_found(cls, resource_id: str) -> Any:
        return exception.VolumeAttachmentNotFound(filter=f"id={resource_id}")

    # What connection_info holds

    @property
    def conn_info(self) -> dict[str, Any]:
        """What the driver returned: ``driver_volume_type`` and ``data``, secrets in clear; empty when disconnected."""
        return _read_part(self, "conn") or {}

    @conn_info.setter
    def conn_info(self, value: dict[str, Any] | None) -> None:
        if not value:
            self._ovo.connection_info = None
            return
        if "data" in value:
            self._ovo.attach_mode = value["data"].setdefault("access_mode", self._ovo.attach_mode)
        _set_part(self, "conn", value)

    connector_info = _InfoPart("connector", "Connector properties of the host that the volume is exported to.")
    device = _InfoPart("device", "What attaching gave: ``path`` and more; None when not attached to this host.")

    @property
    def path(self) -> str | None:
        """The block device on this host."""
        return self.device["path"] if self.device else None

    @property
    def protocol(self) -> str | None:
        return self.conn_info.get("driver_volume_type")

    @property
    def status(self) -> str | None:
        """Cinder's ``attach_status``, under the name that cinderlib's documentation has for it."""
        status: str | None = self._ovo.attach_status
        return status

    @property
    def attached(self) -> bool:
        """Whether it is a block device of a host; ``path`` names that."""
        return bool(self.device)

    @property
    def connected(self) -> bool:
        """Whether the volume is exported for it."""
        return bool(self.conn_info)

    @property
    def use_multipath(self) -> bool:
        """Whether several paths are looked for: as it was set, else as the connector says, else as the connection
        information looks."""
        given = _read_part(self, "use_multipath")
        return self._is_multipath() if given is None else bool(given)

    @use_multipath.setter
    def use_multipath(self, value: bool) -> None:
        # With the connection information, so that a detach in another process looks at the same paths.
        _set_part(self, "use_multipath", bool(value))

    def _is_multipath(self) -> bool:
        connector = self.connector_info or self._ovo.connector or {}
        if "multipath" in connector:
            return bool(connector["multipath"])
        data = self.conn_info.get("data", {})
        iscsi = "target_iqns" in data and "target_portals" in data
        return iscsi or not isinstance(data.get("target_wwn", ""), str)

    # Connecting

    @classmethod
    def connect(cls, volume: Volume, connector: dict[str, Any], **kwargs: Any) -> Self:
        """Export a volume to the host of ``connector``; the caller holds a slot. ``kwargs``: its fields."""
        connection = cls(volume.backend, volume=volume, attach_status="attaching", connector=dict(connector), **kwargs)
        volume_export.export(connection, volume, connector, attach_mode=kwargs.get("attach_mode"))
        return connection

    def move(self, connector: dict[str, Any]) -> None:
        """Take the export from the host that was, and export the volume to what the host is now. Whatever fails, the
        connection stays, and the move can be repeated."""
        volume = self.volume
        with volume.backend.slot():
            volume_export.move(self, volume, connector)

    def disconnect(self, force: bool = False) -> None:
        """Take the export back and forget the connection."""
        self.volume.disconnect(self, force)

    # Attaching to this host

    def attach(self) -> None:
        """Make the volume a block device of this host; ``path`` names it."""
        device = attachment.attach(
            self.conn_info,
            multipath=self.use_multipath,
            read_only=self._ovo.attach_mode == "ro",
            root_helper=cinder_utils.get_root_helper(),
            scan_attempts=self.scan_attempts,
        )
        self.device_attached(device)

    def device_attached(self, device: dict[str, Any]) -> None:
        """Record the device of a volume that the caller attached."""
        self.device = device
        self.save()
        if self._volume is not None:
            self._volume.local_attach = self

    def detach(self, force: bool = False, ignore_errors: bool = False, exc: Any = None) -> None:
        """Flush and remove the block device. Errors are raised, unless ``ignore_errors``."""
        try:
            if self.device:
                attachment.detach(
                    self.conn_info,
                    self.device,
                    multipath=self.use_multipath,
                    force=force,
                    root_helper=cinder_utils.get_root_helper(),
                )
        except Exception:
            # os-brick raises anything.
            if not ignore_errors:
                raise
        self.device = None
        self.save()
        self._connector = None
        if self._volume is not None:
            self._volume.local_attach = None

    def extend(self) -> Any:
        """Let this host see the volume's new size; returns it in bytes."""
        if not self.device:
            raise NotLocal(self._ovo.volume_id)
        return attachment.extend(
            self.conn_info,
            self.device,
            multipath=self.use_multipath,
            root_helper=cinder_utils.get_root_helper(),
        )

    @property
    def connector(self) -> Any:
        """os-brick's connector for this connection; None when disconnected."""
        if self._connector is None and self.conn_info:
            self._connector = connection_info.get_connector(
                self.conn_info, multipath=self.use_multipath, scan_attempts=self.scan_attempts
            )
        return self._connector
