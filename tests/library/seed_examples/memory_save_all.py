"""Keep metadata in memory, and write that of all backends to a file."""

from pathlib import Path

import cinderlib as cl

cl.setup(persistence_config={"storage": "memory"})

backend = cl.Backend(
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(Path("volumes").resolve()),
    volume_backend_name="lvm_iscsi",
)
vol = backend.create_volume(1)

Path("cinderlib.txt").write_text(cl.dumps())
