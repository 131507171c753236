"""Volumes that the storage had before: they are listed, adopted, and given up again.

python examples/library_adopt.py DIRECTORY
"""

import sys
from pathlib import Path

import csi_plugin as cl

volumes = Path(sys.argv[1]).resolve() / "volumes"
volumes.mkdir(parents=True)
with (volumes / "old-data").open("wb") as file:
    file.write(b"from the time before")
    file.truncate(3 * 1024**3)

cl.setup()
backend = cl.Backend(
    volume_backend_name="files",
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(volumes),
)
for found in backend.manageable_volumes():
    print(found["reference"], found["size"], "GiB", "free to take" if found["safe_to_manage"] else "taken")

volume = backend.manage_existing({"source-name": "old-data"}, name="adopted")
print(volume.name, "is of", volume.size, "GiB and called", volume.name_in_storage.partition("-")[0], "in the storage")

group = backend.create_group(name="pair", volumes=[volume, backend.create_volume(1, name="new")])
moment = group.create_snapshot("both at once")
print("snapshots of:", sorted(snapshot.volume.name for snapshot in moment.snapshots))
moment.delete()
group.delete()

volume.unmanage()
print("known:", [found.name for found in backend.volumes])
print("in the storage:", len(list(volumes.glob("volume*"))), "files")
