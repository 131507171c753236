"""A persistence plugin as a third party may have written it for cinderlib: the thirteen methods, and nothing else.

It keeps what objects serialise to, in a file of the standard library's shelve.
"""

import shelve

import csi_plugin as cl
from csi_plugin.persistence.base import PersistenceDriverBase


class ToyPersistence(PersistenceDriverBase):
    def __init__(self, location):
        self._shelf = shelve.open(str(location))  # noqa: SIM115 - it is open as long as the plugin
        super().__init__()

    @property
    def db(self):
        return None

    def get_volumes(self, volume_id=None, volume_name=None, backend_name=None):
        return [
            volume
            for volume in self._get("volume", volume_id)
            if (not volume_name or volume.display_name == volume_name)
            and (not backend_name or volume.host.split("@")[-1].split("#")[0] == backend_name)
        ]

    def get_snapshots(self, snapshot_id=None, snapshot_name=None, volume_id=None):
        return [
            snapshot
            for snapshot in self._get("snapshot", snapshot_id)
            if (not snapshot_name or snapshot.display_name == snapshot_name)
            and (not volume_id or snapshot.volume_id == volume_id)
        ]

    def get_connections(self, connection_id=None, volume_id=None):
        found = self._get("connection", connection_id)
        return [connection for connection in found if not volume_id or connection.volume_id == volume_id]

    def get_key_values(self, key=None):
        prefix = "key_value/" if key is None else f"key_value/{key}"
        return [
            cl.KeyValue(name.removeprefix("key_value/"), self._shelf[name])
            for name in self._shelf
            if (name.startswith(prefix) if key is None else name == prefix)
        ]

    def set_volume(self, volume):
        self._set("volume", volume)
        super().set_volume(volume)

    def set_snapshot(self, snapshot):
        self._set("snapshot", snapshot)
        super().set_snapshot(snapshot)

    def set_connection(self, connection):
        self._set("connection", connection)
        super().set_connection(connection)

    def set_key_value(self, key_value):
        self._shelf[f"key_value/{key_value.key}"] = key_value.value
        self._shelf.sync()

    def delete_volume(self, volume):
        self._delete(f"volume/{volume.id}")
        super().delete_volume(volume)

    def delete_snapshot(self, snapshot):
        self._delete(f"snapshot/{snapshot.id}")
        super().delete_snapshot(snapshot)

    def delete_connection(self, connection):
        self._delete(f"connection/{connection.id}")
        super().delete_connection(connection)

    def delete_key_value(self, key_value):
        self._delete(f"key_value/{key_value.key}")

    def _get(self, kind, id_):
        names = [f"{kind}/{id_}"] if id_ else [name for name in self._shelf if name.startswith(f"{kind}/")]
        return [cl.load(self._shelf[name]) for name in names if name in self._shelf]

    def _set(self, kind, obj):
        self._shelf[f"{kind}/{obj.id}"] = obj.dumps
        self._shelf.sync()

    def _delete(self, name):
        self._shelf.pop(name, None)
        self._shelf.sync()
