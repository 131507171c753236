"""Metadata moves from one kind of persistence to another: out of memory into a database.

python examples/library_migrate.py DIRECTORY
"""

import sys
from pathlib import Path

import csi_plugin as cl

directory = Path(sys.argv[1]).resolve()

cl.setup(persistence_config={"storage": "memory"})
backend = cl.Backend(
    volume_backend_name="files",
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(directory / "volumes"),
)
backend.create_volume(1, name="first").create_snapshot("of the first")
backend.create_volume(2, name="second")

data = cl.dump()  # plain data, which JSON can hold
cl.Backend.set_persistence({"storage": "db", "connection": f"sqlite:///{directory / 'metadata.sqlite'}"})
print("in the new database:", backend.volumes)

cl.load(data, save=True)
for volume in sorted(cl.Backend.persistence.get_volumes(), key=lambda found: found.name):
    print(volume.name, volume.size, "GiB", [snapshot.name for snapshot in volume.snapshots])
