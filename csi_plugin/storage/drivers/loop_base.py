"""What all parts of the loop driver stand on: its directory, and Cinder's errors for what happens there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cinder import exception, objects
from cinder.volume import driver

from csi_plugin.storage.cinder.storage_away import StorageAway
from csi_plugin.storage.drivers.volume_directory import (
    FileCopy,
    InvalidFileName,
    MissingFile,
    OtherDirectory,
    VolumeDirectory,
)
from csi_plugin.units import GIB

Model = dict[str, Any]


@contextmanager
def backend_errors(action: str) -> Iterator[None]:
    """Turn what the operating system reports into Cinder's error for a failing backend."""
    try:
        yield
    except InvalidFileName as error:
        raise exception.InvalidVolume(reason=str(error)) from error
    except OtherDirectory as error:
        raise StorageAway(f"{action}: {error}") from error
    except OSError as error:
        raise exception.VolumeBackendAPIException(data=f"{action}: {error}") from error


def not_found(item: Any) -> Exception:
    """Cinder's error for a volume or snapshot whose file is missing."""
    if isinstance(item, objects.Snapshot):
        error: Exception = exception.SnapshotNotFound(snapshot_id=item.id)
    else:
        error = exception.VolumeNotFound(volume_id=item.id)
    return error


class LoopDriverBase(driver.VolumeDriver):  # type: ignore[misc]  # Cinder has no type information
    """Files by the names of Cinder's objects."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._directory = VolumeDirectory(Path())

    def _path(self, item: Any) -> Path:
        try:
            return self._directory.path(item.name)
        except InvalidFileName as error:
            raise exception.InvalidVolume(reason=str(error)) from error

    def _existing_path(self, item: Any) -> Path:
        """The path of a file that is there; raises Cinder's error for a missing one."""
        with backend_errors(f"Looking for {item.name}"):
            if not self._directory.has(item.name):
                raise not_found(item)
        return self._path(item)

    def _model(self, item: Any) -> Model:
        return {"provider_id": item.name}

    def _copy(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Make each second object's file from the first's, all with the data of one moment.

        A volume grows to its own size. Either all files appear or, on an error, none.
        """
        copies = [
            FileCopy(source=source.name, target=target.name, keeps_source_name=True)
            if isinstance(target, objects.Snapshot)
            else FileCopy(source=source.name, target=target.name, size=target.size * GIB)
            for source, target in pairs
        ]
        with backend_errors(f"Copying to {', '.join(target.name for _, target in pairs)}"):
            try:
                self._directory.copy(copies)
            except MissingFile as error:
                raise not_found({source.name: source for source, _ in pairs}[error.file_name]) from None
