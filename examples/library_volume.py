"""The library by itself: a volume is made, attached, written, snapshotted, restored, cloned and grown.

Run as root, for the loop devices: python examples/library_volume.py DIRECTORY
"""

import sys
from pathlib import Path

import csi_plugin as cl

directory = Path(sys.argv[1]).resolve()

cl.setup(persistence_config={"storage": "db", "connection": f"sqlite:///{directory / 'metadata.sqlite'}"})
backend = cl.Backend(
    volume_backend_name="files",
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",  # any volume driver of Cinder
    loop_volumes_dir=str(directory / "volumes"),
)
print("room:", backend.stats()["pools"][0]["free_capacity_gb"], "GiB in pools", *backend.pool_names)

volume = backend.create_volume(1, name="letters")
connection = volume.attach()
print(volume.name, "is", connection.path)
Path(connection.path).write_bytes(b"dear reader")
volume.detach()

snapshot = volume.create_snapshot("as sent")
restored = snapshot.create_volume(name="letters again")
connection = restored.attach()
with Path(connection.path).open("rb") as device:
    print("restored:", device.read(11).decode())
print("grown to", restored.extend(2), "bytes while attached")
restored.detach()

clone = volume.clone(name="copy")
print("volumes:", sorted(found.name for found in backend.volumes))

try:
    volume.delete()
except cl.exception.InvalidVolume as error:
    print("refused:", error.msg)

snapshot.delete()
for found in (clone, restored, volume):
    found.delete()
print("left:", backend.volumes)
