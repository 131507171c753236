"""Move metadata from SQLite to MySQL (MariaDB here; argument: its URL)."""

import sys
from pathlib import Path

import cinderlib as cl

# The plugin that the metadata is in now
persistence_config = {"storage": "db", "connection": "sqlite:///cinderlib.sqlite"}
cl.setup(persistence_config=persistence_config)

# The backends whose metadata is wanted
backend = cl.Backend(
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(Path("volumes").resolve()),
    volume_backend_name="lvm_iscsi",
)
vol = backend.create_volume(1, name="moved", extra_specs={"a": "b"}, qos_specs={"c": "d"})
snap = vol.create_snapshot("moved too")
vol.connect({"host": "far", "initiator": "iqn.2026-11.org.example:far", "multipath": False})
backend.refresh()

# All of it, in memory
data = cl.dump()

# The plugin that it goes to
new_config = {"storage": "db", "connection": sys.argv[1]}
cl.Backend.set_persistence(new_config)
assert backend.volumes == []

# Stored there
backends = cl.load(data, save=True)

found = cl.Volume.get_by_id(vol.id)
assert found.volume_type.qos_specs.specs == {"c": "d"}
assert [snapshot.name for snapshot in found.snapshots] == ["moved too"]
assert found.connections[0].conn_info == vol.connections[0].conn_info
print(backends[0].volumes)
