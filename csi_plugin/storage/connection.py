"""Connection: a volume exported to a host, and attached there if that host is this one."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import ConnectionRecord, Record
from csi_plugin.storage import codec, serialization
from csi_plugin.storage.cinder import cinder_utils, driver_calls, exception, objects
from csi_plugin.storage.exception import NotLocal
from csi_plugin.storage.resource import backend_class
from csi_plugin.storage.volume import Volume
from csi_plugin.storage.volume_relative import VolumeRelative

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

DEVICE_SCAN_ATTEMPTS = 3
"""os-brick's default."""


class Connection(VolumeRelative):
    """Cinder's volume attachment. Its ``connection_info`` has the driver's answer under ``conn``, the host's connector
    properties under ``connector``, and the local device under ``device``.
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
        self._connector: Any = None
        if "__ovo" not in kwargs and volume is not None:
            kwargs |= {"volume_id": volume.id, "volume": volume._ovo}
        super().__init__(backend, **kwargs)
        if volume is None and self._ovo.obj_attr_is_set("volume") and self._ovo.volume:
            self._volume = Volume(self.backend, __ovo=self._ovo.volume)
        self.use_multipath = self._is_multipath() if use_multipath is None else use_multipath
        if not (self._ovo.obj_attr_is_set("attach_mode") and self._ovo.attach_mode):
            self._ovo.attach_mode = self.conn_info.get("data", {}).get("access_mode", "rw")

    # The backend is the volume's, which is read on access.

    @property
    def backend(self) -> Any:
        if self._backend is None:
            self._backend = self.volume.backend
        return self._backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    @classmethod
    def from_record(cls, record: ConnectionRecord, *, volume: Volume | None = None) -> Self:
        backend = volume.backend if volume is not None else None
        connection = cls(backend, volume=volume, node_id=record.node_id, __ovo=codec.connection_to_ovo(record))
        connection._note_stored(record)
        if volume is not None:
            connection.volume = volume
        return connection

    @property
    def record(self) -> ConnectionRecord:
        record = codec.connection_to_record(self._ovo, node_id=self.node_id)
        record.revision = self.revision
        return record

    @classmethod
    def from_loaded(cls, backend: Any, ovo: Any, extras: serialization.Extras, *, save: bool) -> Self:
        connection = cls(backend, __ovo=ovo)
        serialization.apply_extras(connection, extras)
        if save:
            connection.save()
        return connection

    def extra_data(self) -> dict[str, Any]:
        return {"node_id": self.node_id} if self.node_id else {}

    def take_extra_data(self, data: dict[str, Any]) -> None:
        self.node_id = data.get("node_id")

    @classmethod
    def get_by_id(cls, connection_id: str) -> Self:
        """The connection of that id. Raises ConnectionNotFound."""
        record = backend_class().store.get(ConnectionRecord, connection_id)
        if record is None:
            raise exception.VolumeAttachmentNotFound(filter=f"id={connection_id}")
        return cls.from_record(record)

    # What connection_info holds

    @property
    def conn_info(self) -> dict[str, Any]:
        """What the driver answered: ``driver_volume_type`` and ``data``, secrets in clear; empty when disconnected."""
        return self._part("conn") or {}

    @conn_info.setter
    def conn_info(self, value: dict[str, Any] | None) -> None:
        if not value:
            self._ovo.connection_info = None
            return
        if "data" in value:
            self._ovo.attach_mode = value["data"].setdefault("access_mode", self._ovo.attach_mode)
        self._set_part("conn", value)

    @property
    def connector_info(self) -> dict[str, Any] | None:
        """Connector properties of the host that the volume is exported to."""
        return self._part("connector")

    @connector_info.setter
    def connector_info(self, value: dict[str, Any] | None) -> None:
        self._set_part("connector", value)

    @property
    def device(self) -> dict[str, Any] | None:
        """What attaching gave: ``path`` and more; None when not attached to this host."""
        return self._part("device")

    @device.setter
    def device(self, value: dict[str, Any] | None) -> None:
        self._set_part("device", value)

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

    def _part(self, name: str) -> dict[str, Any] | None:
        info: Any = self._ovo.connection_info if self._ovo.obj_attr_is_set("connection_info") else None
        return info.get(name) if info else None

    def _set_part(self, name: str, value: Any) -> None:
        # A new dictionary, so that the versioned object sees the change.
        info = dict(self._ovo.connection_info or {}) if self._ovo.obj_attr_is_set("connection_info") else {}
        if value:
            info[name] = value
        else:
            info.pop(name, None)
        self._ovo.connection_info = info

    def _is_multipath(self) -> bool:
        """As the connector says, else as the connection information looks."""
        connector = self.connector_info or {}
        if "multipath" in connector:
            return bool(connector["multipath"])
        data = self.conn_info.get("data", {})
        iscsi = "target_iqns" in data and "target_portals" in data
        return iscsi or not isinstance(data.get("target_wwn", ""), str)

    # Connecting

    @classmethod
    def connect(cls, volume: Volume, connector: dict[str, Any], **kwargs: Any) -> "Connection":
        """Export a volume to the host of ``connector``. The intent is stored first, so a crash can be made good."""
        with volume.deciding():
            connection = cls._intended(volume, connector, kwargs)
            failpoint("publish.recorded")
            try:
                # Looked up after this connection was stored, so that either this or the other side gives way.
                volume.check_stored_data("connected")
                volume.check_may_connect(connection.id)
            except exception.InvalidVolume:
                connection._store.delete(connection.record)
                raise
        try:
            answer = connection._call_driver(
                lambda driver: driver_calls.connect(
                    driver,
                    volume._ovo,
                    connector,
                    save=lambda: volume._save_use("in-use", "attached"),
                    attach_mode=connection._ovo.attach_mode,
                )
            )
        except Exception:
            # Drivers raise anything, and driver_calls has removed the export.
            connection._store.delete(connection.record)
            # In use without a connection: an earlier try came as far as that.
            is_free = not connection._store.find(ConnectionRecord, volume_id=volume.id, limit=1)
            volume._export_removed(last=is_free and volume._ovo.status == "in-use")
            raise
        failpoint("publish.driver_done")
        connection.conn_info = answer
        connection.use_multipath = connection._is_multipath()
        connection._ovo.attach_status = "attached"
        connection._ovo.attach_time = datetime.now(UTC)
        # What initialize_connection changed, and the use if the export had nothing to save. The connection is complete
        # last: until then, a repeat or a restart calls the driver again.
        volume._save_use("in-use", "attached")
        failpoint("publish.volume_saved")
        connection.save()
        failpoint("publish.saved")
        return connection

    @classmethod
    def _intended(cls, volume: Volume, connector: dict[str, Any], kwargs: dict[str, Any]) -> "Connection":
        """The stored intent: a new record, or the one that an interrupted try left."""
        existing = backend_class().store.get(ConnectionRecord, kwargs["id"]) if kwargs.get("id") else None
        connection = cls(volume.backend, volume=volume, attach_status="attaching", connector=dict(connector), **kwargs)
        connection.revision = existing.revision if existing else 0
        connection.connector_info = dict(connector)
        connection.save()
        return connection

    def disconnect(self, force: bool = False) -> None:
        """Take the export back and forget the connection."""
        self.volume.disconnect(self, force)

    def _terminate(self, volume: Volume, *, force: bool) -> None:
        self._ovo.attach_status = "error_detaching"  # a disconnect was begun; no better word is allowed
        self.save()
        failpoint("unpublish.recorded")
        others = [
            found
            for found in self._store.find(ConnectionRecord, volume_id=volume.id, limit=2)
            if found.id != self._ovo.id
        ]
        self._call_driver(
            lambda driver: driver_calls.disconnect(
                driver, volume._ovo, self.connector_info, last=not others, force=force
            )
        )
        failpoint("unpublish.driver_done")
        volume._export_removed(last=not others)
        self._store.delete(self.record)
        self.conn_info = None
        self._ovo.attach_status = "detached"
        failpoint("unpublish.saved")

    # Attaching to this host

    def attach(self) -> None:
        """Make the volume a block device of this host; ``path`` names it."""
        from csi_plugin import attachment

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
        from csi_plugin import attachment

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
        from csi_plugin import attachment

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
            from cinder.volume import volume_utils

            self._connector = volume_utils.brick_get_connector(
                self.protocol,
                use_multipath=self.use_multipath,
                device_scan_attempts=self.scan_attempts,
                conn=self.conn_info,
                do_local_attach=True,
            )
        return self._connector
