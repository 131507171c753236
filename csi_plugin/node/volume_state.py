"""What the node remembers of each staged volume, so that it can undo its work after a crash, an upgrade or a reboot.

One small JSON file a volume, written before anything is done with it. Connection information is in there as it came:
sealed to this node's key.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class VolumeState:
    """A volume that is staged here, or was being staged or unstaged."""

    volume_id: str
    staging_path: str
    access_type: str
    """mount or block."""
    access_mode: str
    filesystem: str = ""
    mount_flags: list[str] = field(default_factory=list)
    sealed: str = ""
    """Base64 of the connection information, sealed to this node."""
    read_only: bool = False
    device: dict[str, Any] | None = None
    """os-brick's device information; None until connected."""
    path: str = ""
    """The block device to use: the decrypted one of an encrypted volume."""
    paths: int = 0
    """Over how many paths the storage should be reached: what its connection names, or was seen."""
    identity: str = ""
    """Whose device it is: the kernel gives the name to another volume's after a reboot."""
    encrypted: bool = False
    formatted: bool = False
    """Whether the volume was seen with content, or was given a filesystem, by this node."""
    staged: bool = False
    targets: dict[str, bool] = field(default_factory=dict)
    """Target paths it is published at, and whether read-only."""


class VolumeStates:
    """The state files of a node. Callers hold the volume's in-flight mark."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, volume_id: str) -> VolumeState | None:
        try:
            text = self._file(volume_id).read_text()
        except FileNotFoundError:
            return None
        return VolumeState(**json.loads(text))

    def save(self, state: VolumeState) -> None:
        """Write the state; it survives a crash from here on."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._file(state.volume_id)
        partial = path.with_suffix(".partial")
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(file, json.dumps(asdict(state)).encode())
            os.fsync(file)
        finally:
            os.close(file)
        partial.rename(path)
        self._flush_directory()

    def remove(self, volume_id: str) -> None:
        """Forget the volume. Does nothing when it is not known."""
        self._file(volume_id).unlink(missing_ok=True)
        if self._directory.exists():
            self._flush_directory()

    def all(self) -> Iterator[VolumeState]:
        """Every volume that the node remembers."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield VolumeState(**json.loads(path.read_text()))
            except FileNotFoundError:
                continue  # unstaged meanwhile
            except (ValueError, TypeError) as error:
                LOG.warning("%s is damaged and left out: %s", path, error)

    def _file(self, volume_id: str) -> Path:
        # Ids are the CO's text, which may be no name for a file.
        return self._directory / f"{hashlib.sha256(volume_id.encode()).hexdigest()}.json"

    def _flush_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
