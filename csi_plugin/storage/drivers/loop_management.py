"""Files of the loop driver's directory that Cinder does not know yet: listed, and renamed to become volumes."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cinder import exception, objects
from cinder.context import get_admin_context
from cinder.volume import volume_utils
from oslo_utils import uuidutils

from csi_plugin.attachment.host_tables import loop_devices_by_file_name
from csi_plugin.storage.drivers import attached_files
from csi_plugin.storage.drivers.loop_base import LoopDriverBase, Model, backend_errors
from csi_plugin.storage.drivers.volume_directory import is_file_name, source_name
from csi_plugin.units import GIB


class LoopManagement(LoopDriverBase):
    """Volumes and snapshots that are managed, listed for that, and unmanaged."""

    def manage_existing(self, volume: Any, existing_ref: Any) -> Model:
        """Rename the file to the volume's name and round its size up to whole GiB."""
        self._manage(volume, existing_ref)
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
        self._manage(snapshot, existing_ref)
        return self._model(snapshot)

    def manage_existing_snapshot_get_size(self, snapshot: Any, existing_ref: Any) -> int:
        return self._size_of_reference(existing_ref)

    def get_manageable_snapshots(
        self, cinder_snapshots: Any, marker: Any, limit: Any, offset: Any, sort_keys: Any, sort_dirs: Any
    ) -> list[Model]:
        entries = []
        for path, entry in self._manageable(cinder_snapshots, snapshots=True):
            entries.append(entry | {"source_reference": {"source-name": source_name(path)}})
        return _page(entries, marker, limit, offset, sort_keys, sort_dirs)

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """The file stays, under its name."""

    def _manageable(self, known: Any, *, snapshots: bool) -> Iterator[tuple[Path, Model]]:
        ids = {item.name: item.id for item in known}
        attached = loop_devices_by_file_name()
        with backend_errors(f"Listing {self._directory}"):
            for path, status in self._directory.files():
                if (volume_utils.extract_id_from_snapshot_name(path.name) is not None) != snapshots:
                    continue
                if path.name in ids:
                    reason = "already managed"
                elif path.name in attached and attached_files.is_attached(path):
                    reason = "attached as a loop device"
                else:
                    reason = None
                yield (
                    path,
                    {
                        "reference": {"source-name": path.name},
                        "size": math.ceil(status.st_size / GIB),
                        "safe_to_manage": reason is None,
                        "reason_not_safe": reason,
                        "cinder_id": ids.get(path.name),
                        "extra_info": None,
                    },
                )

    def _manage(self, item: Any, existing_ref: Any) -> None:
        target = self._path(item)
        with backend_errors(f"Renaming {existing_ref} to {item.name}"):
            source = self._referenced(existing_ref)
            if source != target and _is_managed(source.name):
                raise exception.ManageExistingAlreadyManaged(volume_ref=source.name)
            if attached_files.is_attached(source):
                raise exception.ManageExistingInvalidReference(
                    existing_ref=existing_ref, reason="the file is attached as a loop device"
                )
            self._directory.round_up(source.name, GIB)
            self._directory.rename(source.name, item.name)

    def _size_of_reference(self, existing_ref: Any) -> int:
        """Size in GiB, rounded up."""
        with backend_errors(f"Reading the size of {existing_ref}"):
            return math.ceil(self._referenced(existing_ref).stat().st_size / GIB)

    def _referenced(self, existing_ref: Any) -> Path:
        """The file that a reference of Cinder's API names: {"source-name": file name in the directory}, or the name."""
        name: Any = existing_ref.get("source-name") if isinstance(existing_ref, dict) else existing_ref
        reason = None
        if not is_file_name(name):
            reason = "source-name must be the name of a file in loop_volumes_dir that does not start with a dot"
        elif not self._directory.has(name):
            reason = f"{self._directory} has no regular file of that name"
        if reason:
            raise exception.ManageExistingInvalidReference(existing_ref=existing_ref, reason=reason)
        return self._directory.path(name)


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


def _page(
    entries: list[Model], marker: Any, limit: int | None, offset: int | None, sort_keys: Any, sort_dirs: Any
) -> list[Model]:
    page: list[Model] = volume_utils.paginate_entries_list(
        entries, marker, len(entries) if limit is None else limit, offset, sort_keys or [], sort_dirs or []
    )
    return page
