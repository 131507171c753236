"""Read the file that memory_save wrote; a dump of one backend loads as that backend."""

from pathlib import Path

import cinderlib as cl

cl.setup(persistence_config={"storage": "memory"})

backend = cl.Backend(
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(Path("volumes").resolve()),
    volume_backend_name="lvm_iscsi",
)

data = Path("lvm.txt").read_text()
loaded = cl.load(data, save=True)
print(loaded.volumes)
