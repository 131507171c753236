"""Read the file that memory_save_all wrote; a dump of all backends loads as a list."""

from pathlib import Path

import cinderlib as cl

cl.setup(persistence_config={"storage": "memory"})

backend = cl.Backend(
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(Path("volumes").resolve()),
    volume_backend_name="lvm_iscsi",
)

data = Path("cinderlib.txt").read_text()
backends = cl.load(data, save=True)
print(backends[0].volumes)
