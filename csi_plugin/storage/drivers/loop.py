"""LoopDriver: volumes as sparse files in a folder of this host.

A Cinder volume driver like any other: Cinder itself can load it. It is what Cinderbox uses when there is no array, and
what its tests run on. A volume is the file ``<loop_volumes_dir>/<volume name>``, a snapshot the file
``<volume name>@<snapshot name>``; whoever attaches a volume makes a loop device of its file.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cinder import context as cinder_context
from cinder import exception, interface
from cinder.volume import configuration, driver, volume_utils
from oslo_config import cfg

from csi_plugin.storage.drivers import sparse_file

GIB = 1024**3

loop_options = [
    cfg.StrOpt(
        "loop_volumes_dir",
        help="Absolute path of the folder that holds the volumes' files; made with mode 0700 when absent.",
    ),
]
cfg.CONF.register_opts(loop_options, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class LoopDriver(driver.VolumeDriver):  # type: ignore[misc]
    """Keeps volumes as sparse files. Thread-safe; operations on different volumes do not wait for each other."""

    VERSION = "1.0.0"
    CI_WIKI_NAME = "Cinderbox"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(loop_options)

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        return loop_options

    # Set-up

    def do_setup(self, context: cinder_context.RequestContext) -> None:
        folder = self.configuration.safe_get("loop_volumes_dir")
        if not folder or not Path(folder).is_absolute():
            raise exception.InvalidConfigurationValue(option="loop_volumes_dir", value=folder)
        self._folder = Path(folder)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise exception.VolumeBackendAPIException(
                data=f"loop_volumes_dir {folder} cannot be made: {error.strerror}"
            ) from error

    def check_for_setup_error(self) -> None:
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise exception.VolumeBackendAPIException(data=f"loop_volumes_dir {self._folder} is not writable")
        sparse_file.remove_partial_files(self._folder)

    # Volumes

    def create_volume(self, volume: Any) -> None:
        sparse_file.create(self._volume_path(volume), volume.size * GIB)

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        self._copy(self._snapshot_path(snapshot), self._volume_path(volume), volume.size)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        self._copy(self._volume_path(src_vref), self._volume_path(volume), volume.size)

    def delete_volume(self, volume: Any) -> None:
        sparse_file.remove(self._volume_path(volume))

    def extend_volume(self, volume: Any, new_size: int) -> None:
        sparse_file.grow(self._volume_path(volume), new_size * GIB)

    def retype(
        self, context: cinder_context.RequestContext, volume: Any, new_type: Any, diff: Any, host: Any
    ) -> tuple[bool, None]:
        """Any type will do: extra specs and QoS change nothing about a file."""
        return True, None

    def update_migrated_volume(
        self, ctxt: cinder_context.RequestContext, volume: Any, new_volume: Any, original_volume_status: str
    ) -> dict[str, Any]:
        """Give the migrated file the original volume's name."""
        name = cfg.CONF.volume_name_template % volume.id
        sparse_file.rename(self._volume_path(new_volume), self._folder / name)
        return {"_name_id": None, "provider_location": None}

    # Snapshots

    def create_snapshot(self, snapshot: Any) -> None:
        source = self._folder / snapshot.volume_name
        sparse_file.copy(source, self._snapshot_path(snapshot), size_bytes=0)

    def delete_snapshot(self, snapshot: Any) -> None:
        sparse_file.remove(self._snapshot_path(snapshot))

    def revert_to_snapshot(self, context: cinder_context.RequestContext, volume: Any, snapshot: Any) -> None:
        """The volume's file is swapped at once, at its present size."""
        sparse_file.copy(
            self._snapshot_path(snapshot), self._volume_path(volume), size_bytes=volume.size * GIB, replace=True
        )

    # Connections: whoever attaches makes a loop device of the file, so there is nothing to export

    def create_export(self, context: cinder_context.RequestContext, volume: Any, connector: dict[str, Any]) -> None:
        return None

    def ensure_export(self, context: cinder_context.RequestContext, volume: Any) -> None:
        return None

    def remove_export(self, context: cinder_context.RequestContext, volume: Any) -> None:
        return None

    def validate_connector(self, connector: dict[str, Any]) -> None:
        return None

    def initialize_connection(self, volume: Any, connector: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        path = self._volume_path(volume)
        if not path.is_file():
            raise exception.VolumeNotFound(volume_id=volume.id)
        return {"driver_volume_type": "local", "data": {"volume_id": volume.id, "device_path": str(path)}}

    def terminate_connection(self, volume: Any, connector: dict[str, Any] | None, **kwargs: Any) -> None:
        return None

    # Groups

    def create_group(self, context: cinder_context.RequestContext, group: Any) -> dict[str, str]:
        return {"status": "available"}

    def delete_group(
        self, context: cinder_context.RequestContext, group: Any, volumes: Iterable[Any]
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        updates = []
        for volume in volumes:
            self.delete_volume(volume)
            updates.append({"id": volume.id, "status": "deleted"})
        return {"status": "deleted"}, updates

    def update_group(
        self,
        context: cinder_context.RequestContext,
        group: Any,
        add_volumes: Any = None,
        remove_volumes: Any = None,
    ) -> tuple[None, None, None]:
        return None, None, None

    def create_group_from_src(
        self,
        context: cinder_context.RequestContext,
        group: Any,
        volumes: Iterable[Any],
        group_snapshot: Any = None,
        snapshots: Any = None,
        source_group: Any = None,
        source_vols: Any = None,
    ) -> tuple[None, None]:
        for volume in volumes:
            if group_snapshot:
                origin = next(snapshot for snapshot in snapshots if snapshot.id == volume.snapshot_id)
                self.create_volume_from_snapshot(volume, origin)
            else:
                origin = next(source for source in source_vols if source.id == volume.source_volid)
                self.create_cloned_volume(volume, origin)
        return None, None

    def create_group_snapshot(
        self, context: cinder_context.RequestContext, group_snapshot: Any, snapshots: Iterable[Any]
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        """Files cannot be frozen together: whoever needs one point in time over several volumes pauses writing."""
        taken = []
        try:
            for snapshot in snapshots:
                self.create_snapshot(snapshot)
                taken.append(snapshot)
        except Exception:
            # A group snapshot is whole or not there, whatever the cause.
            for snapshot in taken:
                self.delete_snapshot(snapshot)
            raise
        return {"status": "available"}, [{"id": snapshot.id, "status": "available"} for snapshot in taken]

    def delete_group_snapshot(
        self, context: cinder_context.RequestContext, group_snapshot: Any, snapshots: Iterable[Any]
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        updates = []
        for snapshot in snapshots:
            self.delete_snapshot(snapshot)
            updates.append({"id": snapshot.id, "status": "deleted"})
        return {"status": "deleted"}, updates

    # Adoption of existing files

    def manage_existing(self, volume: Any, existing_ref: dict[str, str]) -> None:
        self._adopt(existing_ref, self._volume_path(volume))

    def manage_existing_get_size(self, volume: Any, existing_ref: dict[str, str]) -> int:
        return self._size_of(existing_ref)

    def unmanage(self, volume: Any) -> None:
        """The file stays where it is, under the name that it has."""

    def get_manageable_volumes(
        self,
        cinder_volumes: Iterable[Any],
        marker: Any,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[dict[str, Any]]:
        known = {volume.name: volume.id for volume in cinder_volumes}
        entries = [self._entry(path, known) for path in self._files() if "@" not in path.name]
        page: list[dict[str, Any]] = volume_utils.paginate_entries_list(
            entries, marker, limit, offset, sort_keys, sort_dirs
        )
        return page

    def manage_existing_snapshot(self, snapshot: Any, existing_ref: dict[str, str]) -> None:
        self._adopt(existing_ref, self._snapshot_path(snapshot))

    def manage_existing_snapshot_get_size(self, snapshot: Any, existing_ref: dict[str, str]) -> int:
        return self._size_of(existing_ref)

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """The file stays where it is, under the name that it has."""

    def get_manageable_snapshots(
        self,
        cinder_snapshots: Iterable[Any],
        marker: Any,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[dict[str, Any]]:
        known = {self._snapshot_path(snapshot).name: snapshot.id for snapshot in cinder_snapshots}
        entries = []
        for path in self._files():
            volume_name, separator, _ = path.name.partition("@")
            if separator:
                entries.append(self._entry(path, known) | {"source_reference": {"source-name": volume_name}})
        page: list[dict[str, Any]] = volume_utils.paginate_entries_list(
            entries, marker, limit, offset, sort_keys, sort_dirs
        )
        return page

    # Capacity

    def _update_volume_stats(self) -> None:
        disk = shutil.disk_usage(self._folder)
        sizes = [path.stat().st_size for path in self._files()]
        name = self.configuration.safe_get("volume_backend_name") or "loop"
        self._stats = {
            "volume_backend_name": name,
            "vendor_name": "Cinderbox",
            "driver_version": self.VERSION,
            "storage_protocol": "local",
            "sparse_copy_volume": True,
            "shared_targets": False,
            "pools": [
                {
                    "pool_name": name,
                    "total_capacity_gb": round(disk.total / GIB, 2),
                    "free_capacity_gb": round(disk.free / GIB, 2),
                    "provisioned_capacity_gb": round(sum(sizes) / GIB, 2),
                    "allocated_capacity_gb": round(sum(sizes) / GIB, 2),
                    "reserved_percentage": self.configuration.reserved_percentage,
                    "max_over_subscription_ratio": self.configuration.max_over_subscription_ratio,
                    "thin_provisioning_support": True,
                    "thick_provisioning_support": False,
                    "multiattach": True,
                    "online_extend_support": True,
                    "QoS_support": True,
                    "consistent_group_snapshot_enabled": True,
                    "location_info": f"LoopDriver:{os.uname().nodename}:{self._folder}",
                    "total_volumes": len(sizes),
                    "filter_function": self.get_filter_function(),
                    "goodness_function": self.get_goodness_function(),
                    "backend_state": "up",
                }
            ],
        }

    # Files

    def _volume_path(self, volume: Any) -> Path:
        return self._folder / str(volume.name)

    def _snapshot_path(self, snapshot: Any) -> Path:
        return self._folder / f"{snapshot.volume_name}@{snapshot.name}"

    def _files(self) -> list[Path]:
        """Complete files; hidden ones are being written."""
        with os.scandir(self._folder) as entries:
            return [Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_file()]

    @staticmethod
    def _copy(source: Path, path: Path, size: int) -> None:
        sparse_file.copy(source, path, size_bytes=size * GIB)

    def _existing(self, existing_ref: dict[str, str]) -> Path:
        """The file that a reference names. Only names: a path could lead out of the folder."""
        name = existing_ref.get("source-name", "")
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise exception.ManageExistingInvalidReference(
                existing_ref=existing_ref, reason="source-name must be the name of a file in loop_volumes_dir"
            )
        path = self._folder / name
        if not path.is_file() or path.is_symlink():
            raise exception.ManageExistingInvalidReference(
                existing_ref=existing_ref, reason="there is no such file in loop_volumes_dir"
            )
        return path

    def _adopt(self, existing_ref: dict[str, str], path: Path) -> None:
        existing = self._existing(existing_ref)
        if existing != path:
            sparse_file.rename(existing, path)
        # Cinder counts whole GiB, and a file must be as large as its record says.
        sparse_file.grow(path, self._whole_gib(path) * GIB)

    def _size_of(self, existing_ref: dict[str, str]) -> int:
        return self._whole_gib(self._existing(existing_ref))

    @staticmethod
    def _whole_gib(path: Path) -> int:
        return max(1, -(-path.stat().st_size // GIB))

    def _entry(self, path: Path, known: dict[str, str]) -> dict[str, Any]:
        managed = path.name in known
        return {
            "reference": {"source-name": path.name},
            "size": self._whole_gib(path),
            "safe_to_manage": not managed,
            "reason_not_safe": "already managed" if managed else None,
            "cinder_id": known.get(path.name),
            "extra_info": None,
        }
