"""A plugin of the program's own, given as a class, with its arguments beside it. It keeps objects in dictionaries."""

from pathlib import Path

import cinderlib as cl
from cinderlib.persistence import base


class MyPlugin(base.PersistenceDriverBase):
    def __init__(self, location, user, password):
        print("plugin at", location, "for", user, "with a password of", len(password))
        self.kept = {"volume": {}, "snapshot": {}, "connection": {}, "key_value": {}}

    @property
    def db(self):
        return None

    def get_volumes(self, volume_id=None, volume_name=None, backend_name=None):
        return [
            cl.load(text)
            for key, (text, name, backend) in self.kept["volume"].items()
            if volume_id in (None, "", key) and volume_name in (None, "", name) and backend_name in (None, "", backend)
        ]

    def get_snapshots(self, snapshot_id=None, snapshot_name=None, volume_id=None):
        return [
            cl.load(text)
            for key, (text, name, volume) in self.kept["snapshot"].items()
            if snapshot_id in (None, "", key) and snapshot_name in (None, "", name) and volume_id in (None, "", volume)
        ]

    def get_connections(self, connection_id=None, volume_id=None):
        return [
            cl.load(text)
            for key, (text, volume) in self.kept["connection"].items()
            if connection_id in (None, "", key) and volume_id in (None, "", volume)
        ]

    def get_key_values(self, key=None):
        return [cl.KeyValue(name, value) for name, value in self.kept["key_value"].items() if key in (None, "", name)]

    def set_volume(self, volume):
        self.kept["volume"][volume.id] = (volume.to_jsons(), volume.name, volume.backend.id)
        super().set_volume(volume)

    def set_snapshot(self, snapshot):
        self.kept["snapshot"][snapshot.id] = (snapshot.to_jsons(), snapshot.name, snapshot.volume_id)
        super().set_snapshot(snapshot)

    def set_connection(self, connection):
        self.kept["connection"][connection.id] = (connection.to_jsons(), connection.volume_id)
        super().set_connection(connection)

    def set_key_value(self, key_value):
        self.kept["key_value"][key_value.key] = key_value.value

    def delete_volume(self, volume):
        self.kept["volume"].pop(volume.id, None)
        super().delete_volume(volume)

    def delete_snapshot(self, snapshot):
        self.kept["snapshot"].pop(snapshot.id, None)
        super().delete_snapshot(snapshot)

    def delete_connection(self, connection):
        self.kept["connection"].pop(connection.id, None)
        super().delete_connection(connection)

    def delete_key_value(self, key_value):
        self.kept["key_value"].pop(key_value.key, None)


persistence_config = {"storage": MyPlugin, "location": "127.0.0.1", "user": "admin", "password": "nomoresecrets"}
cl.setup(persistence_config=persistence_config)

backend = cl.Backend(
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(Path("volumes").resolve()),
    volume_backend_name="lvm_iscsi",
)

vol = backend.create_volume(1, name="kept")
snap = vol.create_snapshot("snap")
conn = vol.connect({"host": "far", "initiator": "iqn.2026-11.org.example:far", "multipath": False})
assert [found.id for found in cl.Volume.get_by_name("kept")] == [vol.id]
assert [found.id for found in cl.Volume.get_by_id(vol.id).snapshots] == [snap.id]
assert cl.Volume.get_by_id(vol.id).connections[0].conn_info == conn.conn_info
conn.disconnect()
snap.delete()
vol.extend(2)
print(backend.volumes, cl.Volume.get_by_id(vol.id).size, type(cl.Backend.persistence).__name__)
vol.delete()
assert cl.Backend.persistence.get_volumes() == []
