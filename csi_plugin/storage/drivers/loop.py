"""The embedded default backend: a Cinder volume driver that keeps every volume as a sparse file of one directory."""

import errno
import fcntl
import math
import os
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cinder import exception, interface, objects
from cinder.common import constants
from cinder.context import get_admin_context
from cinder.objects import fields
from cinder.volume import configuration, driver, volume_utils
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import uuidutils

from csi_plugin.attachment.loop_devices import backing_names
from csi_plugin.storage.drivers import loop_devices, reflink

LOG = logging.getLogger(__name__)

loop_opts = [
    cfg.StrOpt(
        "loop_volumes_dir",
        help="Absolute path of the directory in which LoopDriver keeps volumes and snapshots as sparse files. "
        "It is made, with mode 0700, when missing. On XFS and btrfs, snapshots and clones share their data.",
    ),
]
cfg.CONF.register_opts(loop_opts, group=configuration.SHARED_CONF_GROUP)

_GIB = 1024**3
_PARTIAL = ".partial-"
# Seconds for which a copy that others write to is tried again. The first try takes as long as it needs.
_CONSISTENCY_TIMEOUT = 10.0
# Nanoseconds within which two writes may leave a file with one and the same modification time, on any kernel.
_TIMESTAMP_STEP = 20_000_000
# Seconds that a detach which was asked for may still take.
_DETACH_TIMEOUT = 2.0
# Extended attribute of a snapshot's file: the name of the volume it was taken from.
_SOURCE_ATTRIBUTE = "user.cinder.source"

Model = dict[str, Any]


@contextmanager
def _backend_errors(action: str) -> Iterator[None]:
    """Turn what the operating system reports into Cinder's error for a failing backend."""
    try:
        yield
    except OSError as error:
        raise exception.VolumeBackendAPIException(data=f"{action}: {error}") from error


@interface.volumedriver
class LoopDriver(driver.VolumeDriver):  # type: ignore[misc]  # Cinder has no type information
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
        self._directory = Path()

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
        self._directory = directory

    def check_for_setup_error(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory = self._directory.resolve(strict=True)
            self._remove_leftovers()
            with self._scratch_file("probe") as (first, _), self._scratch_file("probe") as (second, _):
                os.write(first, b"x")
                shared = reflink.share(first, second)
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

    def _remove_leftovers(self) -> None:
        """Remove what a crash left unfinished. A file that is being written is locked by its writer."""
        for path in self._directory.glob(f".*{_PARTIAL}*"):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                LOG.info("Removed %s, left by an interrupted operation", path)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)

    def _update_volume_stats(self) -> None:
        with _backend_errors(f"Reading the capacity of {self._directory}"):
            filesystem = os.statvfs(self._directory)
            files = list(self._files())
        pool = {
            "pool_name": self.backend_name,
            "total_capacity_gb": round(filesystem.f_blocks * filesystem.f_frsize / _GIB, 2),
            "free_capacity_gb": round(filesystem.f_bavail * filesystem.f_frsize / _GIB, 2),
            "provisioned_capacity_gb": round(sum(status.st_size for _, status in files) / _GIB, 2),
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
            "QoS_support": True,
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
        path = self._path(volume.name)
        with (
            _backend_errors(f"Creating volume {volume.name}"),
            self._scratch_file(volume.name) as (descriptor, scratch),
        ):
            os.ftruncate(descriptor, volume.size * _GIB)
            os.fsync(descriptor)
            self._publish([(scratch, path)])
        return self._model(volume)

    def delete_volume(self, volume: Any) -> None:
        path = self._path(volume.name)
        with _backend_errors(f"Deleting volume {volume.name}"):
            if path.exists() and loop_devices.is_attached(path, timeout=_DETACH_TIMEOUT):
                raise exception.VolumeAttached(volume_id=volume.id)
            self._remove(path)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Grow the file to `new_size` GiB. Loop devices of it keep their size until whoever attached them asks."""
        with _backend_errors(f"Extending volume {volume.name}"):
            descriptor = self._open(volume, os.O_RDWR)
            try:
                size = os.fstat(descriptor).st_size
                if size > new_size * _GIB:
                    raise exception.ExtendVolumeError(
                        reason=f"{volume.name} has {size} bytes, more than the {new_size} GiB asked for"
                    )
                os.ftruncate(descriptor, new_size * _GIB)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def local_path(self, volume: Any) -> str:
        return str(self._path(volume.name))

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> Model:
        self._copy([(snapshot, volume)])
        return self._model(volume)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> Model:
        self._copy([(src_vref, volume)])
        return self._model(volume)

    def retype(self, context: Any, volume: Any, new_type: Any, diff: Any, host: Any) -> tuple[bool, Model | None]:
        """Every type fits but one that changes encryption: data already written would have to be written anew."""
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
            self._rename(self._path(new_volume.name), self._path(name))
        except OSError as error:
            LOG.error("Volume %s keeps the file name %s: %s", volume.id, new_volume.name, error)
            return kept
        return {"_name_id": None, "provider_location": None, "provider_id": name}

    # Snapshots

    def create_snapshot(self, snapshot: Any) -> Model:
        self._copy([(snapshot.volume, snapshot)])
        return self._model(snapshot)

    def delete_snapshot(self, snapshot: Any) -> None:
        with _backend_errors(f"Deleting snapshot {snapshot.name}"):
            self._remove(self._path(snapshot.name))

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Put the snapshot's data in place of the volume's, at the volume's size. The volume must be detached."""
        with _backend_errors(f"Reverting volume {volume.name} to snapshot {snapshot.name}"):
            path = self._path(volume.name)
            if not path.exists():
                raise exception.VolumeNotFound(volume_id=volume.id)
            if loop_devices.is_attached(path, timeout=_DETACH_TIMEOUT):
                raise exception.VolumeAttached(volume_id=volume.id)
            source = self._open(snapshot, os.O_RDONLY)
            try:
                with self._scratch_file(volume.name) as (target, scratch):
                    reflink.copy_file(source, target)
                    _grow(target, path.stat().st_size)
                    os.fsync(target)
                    scratch.replace(path)
                    self._flush_directory()
            finally:
                os.close(source)

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        return False  # an interrupted revert leaves the volume as it was

    # Connections

    def ensure_export(self, context: Any, volume: Any) -> None:
        """A file needs no export."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """A file needs no export."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """A file needs no export."""

    def create_export_snapshot(self, context: Any, snapshot: Any, connector: Any) -> None:
        """A file needs no export."""

    def remove_export_snapshot(self, context: Any, snapshot: Any) -> None:
        """A file needs no export."""

    def initialize_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Model:
        """Connection information for os-brick's LocalConnector; `device_path` is a regular file."""
        path = self._path(volume.name)
        if not path.is_file():
            raise exception.VolumeNotFound(volume_id=volume.id)
        return {
            "driver_volume_type": "local",
            "data": {"device_path": str(path), "volume_id": volume.id},
        }

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> None:
        """Nothing was set up for a connector."""

    def initialize_connection_snapshot(self, snapshot: Any, connector: Any, **kwargs: Any) -> Model:
        path = self._path(snapshot.name)
        if not path.is_file():
            raise exception.SnapshotNotFound(snapshot_id=snapshot.id)
        return {"driver_volume_type": "local", "data": {"device_path": str(path), "access_mode": "ro"}}

    def terminate_connection_snapshot(self, snapshot: Any, connector: Any, **kwargs: Any) -> None:
        """Nothing was set up for a connector."""

    # Groups

    def create_group(self, context: Any, group: Any) -> Model:
        return {"status": fields.GroupStatus.AVAILABLE}

    def update_group(
        self, context: Any, group: Any, add_volumes: Any = None, remove_volumes: Any = None
    ) -> tuple[None, None, None]:
        return None, None, None

    def delete_group(self, context: Any, group: Any, volumes: Sequence[Any]) -> tuple[Model, list[Model]]:
        return self._delete_each(volumes, self.delete_volume)

    def create_group_from_src(
        self,
        context: Any,
        group: Any,
        volumes: Sequence[Any],
        group_snapshot: Any = None,
        snapshots: Sequence[Any] | None = None,
        source_group: Any = None,
        source_vols: Sequence[Any] | None = None,
    ) -> tuple[None, list[Model]]:
        if group_snapshot is not None:
            sources = {snapshot.id: snapshot for snapshot in snapshots or ()}
            pairs = [(sources[volume.snapshot_id], volume) for volume in volumes]
        else:
            sources = {source.id: source for source in source_vols or ()}
            pairs = [(sources[volume.source_volid], volume) for volume in volumes]
        self._copy(pairs)
        return None, [{"id": volume.id, **self._model(volume)} for volume in volumes]

    def create_group_snapshot(
        self, context: Any, group_snapshot: Any, snapshots: Sequence[Any]
    ) -> tuple[None, list[Model]]:
        """Snapshots of one moment: none of the volumes was written to between the first and the last of them."""
        self._copy([(snapshot.volume, snapshot) for snapshot in snapshots])
        return None, [
            {"id": snapshot.id, "status": fields.SnapshotStatus.AVAILABLE, **self._model(snapshot)}
            for snapshot in snapshots
        ]

    def delete_group_snapshot(
        self, context: Any, group_snapshot: Any, snapshots: Sequence[Any]
    ) -> tuple[Model, list[Model]]:
        return self._delete_each(snapshots, self.delete_snapshot)

    def _delete_each(self, items: Sequence[Any], delete: Callable[[Any], None]) -> tuple[Model, list[Model]]:
        updates = []
        for item in items:
            try:
                delete(item)
            except exception.CinderException as error:
                LOG.error("Deleting %s of a group failed: %s", item.name, error)
                updates.append({"id": item.id, "status": "error_deleting"})
            else:
                updates.append({"id": item.id, "status": "deleted"})
        failed = any(update["status"] != "deleted" for update in updates)
        return {"status": "error_deleting" if failed else "deleted"}, updates

    # Files that Cinder does not know yet

    def manage_existing(self, volume: Any, existing_ref: Any) -> Model:
        """Rename the file to the volume's name and round its size up to whole GiB."""
        self._adopt(volume, existing_ref)
        return self._model(volume)

    def manage_existing_get_size(self, volume: Any, existing_ref: Any) -> int:
        return self._size_of_reference(existing_ref)

    def get_manageable_volumes(
        self, cinder_volumes: Any, marker: Any, limit: Any, offset: Any, sort_keys: Any, sort_dirs: Any
    ) -> list[Model]:
        entries = [entry for _, entry in self._manageable(cinder_volumes, snapshots=False)]
        return _page(entries, marker, limit, offset, sort_keys, sort_dirs)

    def unmanage(self, volume: Any) -> None:
        """The file stays, under its name."""

    def manage_existing_snapshot(self, snapshot: Any, existing_ref: Any) -> Model:
        self._adopt(snapshot, existing_ref)
        return self._model(snapshot)

    def manage_existing_snapshot_get_size(self, snapshot: Any, existing_ref: Any) -> int:
        return self._size_of_reference(existing_ref)

    def get_manageable_snapshots(
        self, cinder_snapshots: Any, marker: Any, limit: Any, offset: Any, sort_keys: Any, sort_dirs: Any
    ) -> list[Model]:
        entries = []
        for path, entry in self._manageable(cinder_snapshots, snapshots=True):
            entries.append(entry | {"source_reference": {"source-name": _source_name(path)}})
        return _page(entries, marker, limit, offset, sort_keys, sort_dirs)

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """The file stays, under its name."""

    def _manageable(self, known: Any, *, snapshots: bool) -> Iterator[tuple[Path, Model]]:
        ids = {item.name: item.id for item in known}
        attached = backing_names()
        with _backend_errors(f"Listing {self._directory}"):
            for path, status in self._files():
                if (volume_utils.extract_id_from_snapshot_name(path.name) is not None) != snapshots:
                    continue
                if path.name in ids:
                    reason = "already managed"
                elif path.name in attached and loop_devices.is_attached(path):
                    reason = "attached as a loop device"
                else:
                    reason = None
                yield (
                    path,
                    {
                        "reference": {"source-name": path.name},
                        "size": math.ceil(status.st_size / _GIB),
                        "safe_to_manage": reason is None,
                        "reason_not_safe": reason,
                        "cinder_id": ids.get(path.name),
                        "extra_info": None,
                    },
                )

    def _adopt(self, item: Any, existing_ref: Any) -> None:
        target = self._path(item.name)
        with _backend_errors(f"Renaming {existing_ref} to {item.name}"):
            source = self._referenced(existing_ref)
            if source != target and _is_managed(source.name):
                raise exception.ManageExistingAlreadyManaged(volume_ref=source.name)
            if loop_devices.is_attached(source):
                raise exception.ManageExistingInvalidReference(
                    existing_ref=existing_ref, reason="the file is attached as a loop device"
                )
            descriptor = os.open(source, os.O_RDWR | os.O_NOFOLLOW)
            try:
                _grow(descriptor, math.ceil(os.fstat(descriptor).st_size / _GIB) * _GIB)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._rename(source, target)

    def _size_of_reference(self, existing_ref: Any) -> int:
        """Size in GiB, rounded up."""
        with _backend_errors(f"Reading the size of {existing_ref}"):
            return math.ceil(self._referenced(existing_ref).stat().st_size / _GIB)

    def _referenced(self, existing_ref: Any) -> Path:
        """The file that a reference of Cinder's API names: {"source-name": file name in the directory}, or the name."""
        name = existing_ref.get("source-name") if isinstance(existing_ref, dict) else existing_ref
        reason = None
        if not isinstance(name, str) or not name or "/" in name or "\0" in name or name.startswith("."):
            reason = "source-name must be the name of a file in loop_volumes_dir that does not start with a dot"
        elif not _is_regular(self._directory / name):
            reason = f"{self._directory} has no regular file of that name"
        if reason:
            raise exception.ManageExistingInvalidReference(existing_ref=existing_ref, reason=reason)
        return self._directory / str(name)

    # The directory

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every file that is, or can become, a volume or snapshot."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted in the meantime
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Path(entry.path), status

    def _path(self, name: str) -> Path:
        if not name or "/" in name or "\0" in name or name.startswith("."):
            raise exception.InvalidVolume(reason=f"{name!r} can't be the name of a file in {self._directory}")
        return self._directory / name

    def _model(self, item: Any) -> Model:
        return {"provider_id": item.name}

    def _open(self, item: Any, flags: int) -> int:
        try:
            return os.open(self._path(item.name), flags | os.O_NOFOLLOW)
        except FileNotFoundError:
            if isinstance(item, objects.Snapshot):
                raise exception.SnapshotNotFound(snapshot_id=item.id) from None
            raise exception.VolumeNotFound(volume_id=item.id) from None

    def _copy(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Make each second object's file from the first's, all with the data of one moment.

        A volume grows to its own size. Either all files appear or, on an error, none.
        """
        names = ", ".join(target.name for _, target in pairs)
        with _backend_errors(f"Copying to {names}"), ExitStack() as stack:
            sources = []
            for source, _ in pairs:
                sources.append(self._open(source, os.O_RDONLY))
                stack.callback(os.close, sources[-1])
                loop_devices.flush(self._path(source.name))
            scratch = [stack.enter_context(self._scratch_file(target.name)) for _, target in pairs]
            _copy_consistently(sources, [descriptor for descriptor, _ in scratch])
            for (source, target), (descriptor, _) in zip(pairs, scratch, strict=True):
                if isinstance(target, objects.Snapshot):
                    _set_source_name(descriptor, source.name)
                else:
                    _grow(descriptor, target.size * _GIB)
                os.fsync(descriptor)
            self._publish(
                [(path, self._path(target.name)) for (_, target), (_, path) in zip(pairs, scratch, strict=True)]
            )

    @contextmanager
    def _scratch_file(self, name: str) -> Iterator[tuple[int, Path]]:
        """(descriptor, path) of a new empty file that is removed at the end, or at the next start after a crash."""
        while True:
            path = self._directory / f".{name}{_PARTIAL}{uuid.uuid4().hex}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)  # a starting driver took it for a leftover before the lock was there
        try:
            yield descriptor, path
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _publish(self, files: Sequence[tuple[Path, Path]]) -> None:
        """Give each finished (scratch file, final path) its name: all of them, or none when one is taken."""
        published: list[Path] = []
        try:
            for scratch, path in files:
                os.link(scratch, path)
                published.append(path)
            self._flush_directory()
        except BaseException:
            for path in published:
                path.unlink(missing_ok=True)
            raise

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._flush_directory()

    def _rename(self, source: Path, target: Path) -> None:
        """Rename without ever replacing another file; safe to repeat after a crash."""
        if source == target:
            return
        try:
            os.link(source, target)
        except FileExistsError:
            if not source.samefile(target):
                raise
        source.unlink()
        self._flush_directory()

    def _flush_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _copy_consistently(sources: Sequence[int], targets: Sequence[int]) -> None:
    """Copy every file such that all copies show the sources at one moment.

    A reflink of one file does by itself. Otherwise modification times tell whether something was written meanwhile (a
    loop device's writes move its file's), and the copy starts anew. Raises OSError(EBUSY) when that never ends.
    """
    deadline = time.monotonic() + _CONSISTENCY_TIMEOUT
    while True:
        before = [os.fstat(source).st_mtime_ns for source in sources]
        settled = all(abs(time.time_ns() - modified) > _TIMESTAMP_STEP for modified in before)
        shared = [reflink.copy_file(source, target) for source, target in zip(sources, targets, strict=True)]
        if shared == [True] or (settled and before == [os.fstat(source).st_mtime_ns for source in sources]):
            return
        if time.monotonic() > deadline:
            raise OSError(
                errno.EBUSY,
                "the data was written to all the time while it was copied, so that the copy would mix states of "
                "different moments; pause the writers"
                + ("" if all(shared) else ", or keep loop_volumes_dir on XFS or btrfs"),
            )


def _grow(descriptor: int, size: int) -> None:
    """Grow the file to `size` bytes; never shrink it."""
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)


def _set_source_name(descriptor: int, name: str) -> None:
    try:
        os.setxattr(descriptor, _SOURCE_ATTRIBUTE, name.encode())
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # the name is only shown to people
            raise


def _source_name(path: Path) -> str | None:
    try:
        return os.getxattr(path, _SOURCE_ATTRIBUTE, follow_symlinks=False).decode(errors="replace")
    except OSError:
        return None


def _is_managed(name: str) -> bool:
    """Whether Cinder's records have a volume or snapshot with the id that the file's name holds."""
    for extract, kind in (
        (volume_utils.extract_id_from_volume_name, objects.Volume),
        (volume_utils.extract_id_from_snapshot_name, objects.Snapshot),
    ):
        identifier = extract(name)
        if identifier and uuidutils.is_uuid_like(identifier):
            return bool(kind.exists(get_admin_context(), identifier))
    return False


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _page(
    entries: list[Model], marker: Any, limit: int | None, offset: int | None, sort_keys: Any, sort_dirs: Any
) -> list[Model]:
    page: list[Model] = volume_utils.paginate_entries_list(
        entries, marker, len(entries) if limit is None else limit, offset, sort_keys or [], sort_dirs or []
    )
    return page
