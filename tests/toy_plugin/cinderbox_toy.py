"""A persistence plugin as a third party may have written it for cinderlib: the thirteen methods, and nothing else.

It keeps what objects serialise to, in one table of a SQLite file.
"""

import sqlite3

import csi_plugin as cl
from csi_plugin.persistence.base import PersistenceDriverBase


class ToyPersistence(PersistenceDriverBase):
    def __init__(self, location):
        self._database = sqlite3.connect(str(location), isolation_level=None, check_same_thread=False)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS toy (kind TEXT, id TEXT, value TEXT, PRIMARY KEY (kind, id))"
        )
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
        return [cl.KeyValue(id_, value) for id_, value in self._rows("key_value", key)]

    def set_volume(self, volume):
        self._set("volume", volume.id, volume.dumps)
        super().set_volume(volume)

    def set_snapshot(self, snapshot):
        self._set("snapshot", snapshot.id, snapshot.dumps)
        super().set_snapshot(snapshot)

    def set_connection(self, connection):
        self._set("connection", connection.id, connection.dumps)
        super().set_connection(connection)

    def set_key_value(self, key_value):
        self._set("key_value", key_value.key, key_value.value)

    def delete_volume(self, volume):
        self._delete("volume", volume.id)
        super().delete_volume(volume)

    def delete_snapshot(self, snapshot):
        self._delete("snapshot", snapshot.id)
        super().delete_snapshot(snapshot)

    def delete_connection(self, connection):
        self._delete("connection", connection.id)
        super().delete_connection(connection)

    def delete_key_value(self, key_value):
        self._delete("key_value", key_value.key)

    def _get(self, kind, id_):
        return [cl.load(value) for _, value in self._rows(kind, id_)]

    def _rows(self, kind, id_):
        if id_:
            query = "SELECT id, value FROM toy WHERE kind = ? AND id = ?"
            return self._database.execute(query, (kind, id_)).fetchall()
        return self._database.execute("SELECT id, value FROM toy WHERE kind = ?", (kind,)).fetchall()

    def _set(self, kind, id_, value):
        self._database.execute("INSERT OR REPLACE INTO toy VALUES (?, ?, ?)", (kind, id_, value))

    def _delete(self, kind, id_):
        self._database.execute("DELETE FROM toy WHERE kind = ? AND id = ?", (kind, id_))
