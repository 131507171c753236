"""The embedded default backend: a Cinder volume driver that keeps every volume as a sparse file of one directory."""

import socket
from pathlib import Path
from typing import Any

from cinder import exception, interface
from cinder.common import constants
from cinder.volume import configuration, volume_utils
from oslo_config import cfg
from oslo_log import log as logging

from csi_plugin.storage.drivers import attached_files
from csi_plugin.storage.drivers.loop_base import Model, backend_errors, not_found
from csi_plugin.storage.drivers.loop_connections import LoopConnections
from csi_plugin.storage.drivers.loop_groups import LoopGroups
from csi_plugin.storage.drivers.loop_management import LoopManagement
from csi_plugin.storage.drivers.volume_directory import InvalidFileName, MissingFile, VolumeDirectory
from csi_plugin.units import GIB

LOG = logging.getLogger(__name__)

loop_opts = [
    cfg.StrOpt(
        "loop_volumes_dir",
        help="Absolute path of the directory in which LoopDriver keeps volumes and snapshots as sparse files. "
        "It is created, with mode 0700, when missing. On XFS and btrfs, snapshots and clones share their data.",
    ),
]
cfg.CONF.register_opts(loop_opts, group=configuration.SHARED_CONF_GROUP)

# Seconds that a detach which was asked for may still take.
_DETACH_TIMEOUT = 2.0


@interface.volumedriver
class LoopDriver(LoopConnections, LoopGroups, LoopManagement):
    """Volumes as sparse files `<loop_volumes_dir>/<volume name>`, snapshots as `<loop_volumes_dir>/<snapshot name>`.

    The name alone identifies an object; nothing else needs to be remembered about it. A snapshot or clone is a file of
    its own and outlives its source. The connection information names the file: whoever attaches it on this host makes
    a loop device of it.

    A file appears under its name complete and flushed, or not at all, and never in place of another. Data of attached
    volumes: what was written to a loop device before the call is part of the copy, and a copy never mixes states of
    different moments. Where the filesystem can't share extents, a volume under constant writing can't be copied then.

    Methods may be called from several threads at once; calls for the same object are the caller's to order, as in
    Cinder. OSError never leaves the driver: it becomes VolumeBackendAPIException.
    """

    VERSION = "1.0.0"
    CI_WIKI_NAME = "Cinderbox_Loop"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(loop_opts)
        self.backend_name: str = self.configuration.safe_get("volume_backend_name") or "loop"

    @classmethod
    def get_driver_options(cls) -> list[cfg.Opt]:
        return [*loop_opts, *cls._get_oslo_driver_opts("reserved_percentage", "max_over_subscription_ratio")]

    # Setup and capacity

    def do_setup(self, context: Any) -> None:
        value = self.configuration.loop_volumes_dir
        if not value:
            raise exception.InvalidConfigurationValue("loop_volumes_dir is not set: it must be an absolute path")
        directory = Path(value)
        if not directory.is_absolute():
            raise exception.InvalidConfigurationValue(f"loop_volumes_dir must be an absolute path, not {value!r}")
        self._directory = VolumeDirectory(directory)

    def check_for_setup_error(self) -> None:
        try:
            shared = self._directory.prepare()
        except OSError as error:
            raise exception.InvalidConfigurationValue(
                f"loop_volumes_dir: {self._directory} is not a directory that can be written to: {error}"
            ) from error
        if not shared:
            LOG.warning(
                "%s is on a filesystem without reflinks: snapshots and clones copy all data of their source. "
                "XFS and btrfs avoid that.",
                self._directory,
            )

    # Which storage it is; see storage_identity

    @property
    def storage_id_path(self) -> Path:
        """The file with the id of the directory."""
        return self._directory.mark_path

    def storage_id(self) -> str | None:
        """The id that the directory has; None for one without, or that is not there."""
        with backend_errors(f"Reading the id of {self._directory}"):
            return self._directory.read_mark()

    def set_storage_id(self, storage_id: str) -> str | None:
        """Give the directory an id unless it has one by now; the one that it has then, None while its filesystem is
        full."""
        with backend_errors(f"Writing the id of {self._directory}"):
            return self._directory.write_mark(storage_id)

    def require_storage_id(self, storage_id: str) -> None:
        """Touch nothing from now on while the directory has another id: StorageAway."""
        self._directory.require_mark(storage_id)

    def has_object(self, name: str) -> bool:
        """Whether the directory has a volume or snapshot of that name."""
        with backend_errors(f"Looking for {name}"):
            return self._directory.has(name)

    def _update_volume_stats(self) -> None:
        with backend_errors(f"Reading the capacity of {self._directory}"):
            filesystem = self._directory.filesystem()
            files = list(self._directory.files())
        pool = {
            "pool_name": self.backend_name,
            "total_capacity_gb": round(filesystem.f_blocks * filesystem.f_frsize / GIB, 2),
            "free_capacity_gb": round(filesystem.f_bavail * filesystem.f_frsize / GIB, 2),
            "provisioned_capacity_gb": round(sum(status.st_size for _, status in files) / GIB, 2),
            "total_volumes": len(files),
            "reserved_percentage": self.configuration.reserved_percentage,
            "max_over_subscription_ratio": volume_utils.get_max_over_subscription_ratio(
                self.configuration.max_over_subscription_ratio, supports_auto=True
            ),
            "thin_provisioning_support": True,
            "thick_provisioning_support": False,
            "location_info": f"LoopDriver:{socket.gethostname()}:{self._directory}",
            "multiattach": True,
            "online_extend_support": True,
            "QoS_support": False,
            "consistent_group_snapshot_enabled": True,
            "filter_function": self.get_filter_function(),
            "goodness_function": self.get_goodness_function(),
            "backend_state": "up",
        }
        self._stats = {
            "volume_backend_name": self.backend_name,
            "vendor_name": "Cinderbox",
            "driver_version": self.VERSION,
            "storage_protocol": constants.FILE,
            "shared_targets": False,
            "sparse_copy_volume": True,
            "pools": [pool],
        }

    def get_pool(self, volume: Any) -> str:
        return self.backend_name

    # Volumes

    def create_volume(self, volume: Any) -> Model:
        with backend_errors(f"Creating volume {volume.name}"):
            self._directory.create(volume.name, volume.size * GIB)
        return self._model(volume)

    def delete_volume(self, volume: Any) -> None:
        path = self._path(volume)
        with backend_errors(f"Deleting volume {volume.name}"):
            if path.exists() and attached_files.is_attached(path, timeout=_DETACH_TIMEOUT):
                raise exception.VolumeAttached(volume_id=volume.id)
            self._directory.remove(volume.name)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Grow the file to `new_size` GiB. Loop devices of it keep their size until whoever attached them asks."""
        with backend_errors(f"Extending volume {volume.name}"):
            try:
                size = self._directory.grow(volume.name, new_size * GIB)
            except MissingFile:
                raise not_found(volume) from None
        if size > new_size * GIB:
            raise exception.ExtendVolumeError(
                reason=f"{volume.name} has {size} bytes, more than the {new_size} GiB asked for"
            )

    def local_path(self, volume: Any) -> str:
        return str(self._path(volume))

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> Model:
        self._copy([(snapshot, volume)])
        return self._model(volume)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> Model:
        self._copy([(src_vref, volume)])
        return self._model(volume)

    def retype(self, context: Any, volume: Any, new_type: Any, diff: Any, host: Any) -> tuple[bool, Model | None]:
        """Every type fits but one that changes encryption: data already written would have to be written again."""
        encryption = (diff or {}).get("encryption") or {}
        return all(old == new for old, new in encryption.values()), None

    def update_migrated_volume(
        self, context: Any, volume: Any, new_volume: Any, original_volume_status: str
    ) -> dict[str, str | None]:
        """Give the file of `new_volume` the name of the volume that it now is, unless that one is attached."""
        name = cfg.CONF.volume_name_template % volume.id
        kept = {
            "_name_id": new_volume.name_id,
            "provider_location": new_volume.provider_location,
            "provider_id": new_volume.name,
        }
        if original_volume_status != "available":
            return kept
        try:
            self._directory.rename(new_volume.name, name)
        except (OSError, InvalidFileName) as error:
            LOG.error("Volume %s keeps the file name %s: %s", volume.id, new_volume.name, error)
            return kept
        return {"_name_id": None, "provider_location": None, "provider_id": name}

    # Snapshots

    def create_snapshot(self, snapshot: Any) -> Model:
        self._copy([(snapshot.volume, snapshot)])
        return self._model(snapshot)

    def delete_snapshot(self, snapshot: Any) -> None:
        with backend_errors(f"Deleting snapshot {snapshot.name}"):
            self._directory.remove(snapshot.name)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Put the snapshot's data in place of the volume's, at the volume's size. The volume must be detached."""
        with backend_errors(f"Reverting volume {volume.name} to snapshot {snapshot.name}"):
            path = self._existing_path(volume)
            if attached_files.is_attached(path, timeout=_DETACH_TIMEOUT):
                raise exception.VolumeAttached(volume_id=volume.id)
            try:
                self._directory.replace_data(volume.name, snapshot.name)
            except MissingFile:
                raise not_found(snapshot) from None

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        return False  # an interrupted revert leaves the volume as it was
