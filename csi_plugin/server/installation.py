"""What cannot change in the life of an installation, as the metadata store, and each node, remember it."""

import logging
from pathlib import Path

from csi_plugin import durable_files
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.records import DRIVER_NAME_KEY, KeyValueRecord, SnapshotRecord, VolumeRecord
from csi_plugin.server.settings import SettingsError

LOG = logging.getLogger(__name__)


def settle_driver_name(store: RecordStore, driver_name: str) -> None:
    """Remember the driver's name; raise SettingsError when the volumes that are recorded are another name's.

    PersistentVolumes carry the name, and kubelet finds the node by it: under another one nobody could stage, unstage
    or delete what there is.
    """
    record = store.get(KeyValueRecord, DRIVER_NAME_KEY)
    if record is None:
        store.create(KeyValueRecord(id=DRIVER_NAME_KEY, value=driver_name))
        return
    if record.value == driver_name:
        return
    if any(store.find(kind, limit=1) for kind in (VolumeRecord, SnapshotRecord)):
        raise SettingsError(
            f"driver_name: the volumes and snapshots in this metadata store are those of {record.value}, and cannot be "
            f"used as those of {driver_name}. Set it back to {record.value} (chart: driverName); another name needs an "
            "installation of its own, or a store in which nothing is left"
        )
    LOG.warning("driver_name is %s from now on; it was %s, and nothing is recorded", driver_name, record.value)
    record.value = driver_name
    store.update(record)


def settle_driver_name_of_node(folder: Path, driver_name: str, *, volumes_dir: Path) -> None:
    """Remember the driver's name on this node; raise SettingsError when volumes are staged under another one.

    Kubelet asks the driver of their name to unpublish and unstage them, and finds nobody under a new one.
    """
    path = folder / "driver-name"
    try:
        remembered = path.read_text(errors="replace").strip()
    except OSError:
        remembered = ""
    if remembered == driver_name:
        return
    if remembered and any(volumes_dir.glob("*.json")):
        raise SettingsError(
            f"driver_name: the volumes that this node has staged, in {volumes_dir}, are those of {remembered}, and "
            f"nobody could unstage them as {driver_name}. Set it back to {remembered}; another name needs a state_dir "
            "of its own"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable_files.write(path, driver_name.encode())
    except OSError as error:
        # What is staged is served on a full disk, too.
        LOG.warning("%s cannot be written, the next start attempts it again: %s", path, error)
