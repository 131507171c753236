"""Keep metadata in an SQLite file."""

from pathlib import Path

import cinderlib as cl

persistence_config = {"storage": "db", "connection": "sqlite:///cl.sqlite"}
cl.setup(persistence_config=persistence_config)

backend = cl.Backend(
    volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
    loop_volumes_dir=str(Path("volumes").resolve()),
    volume_backend_name="lvm_iscsi",
)
vol = backend.create_volume(1)
