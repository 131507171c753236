"""What the node remembers of each staged volume, so that it can take back its work after a crash, an upgrade or a
reboot.

One small JSON file a volume, written before anything is done with it. Connection information is in there as it came:
sealed to this node's key.
"""

import errno
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import grpc

from csi_plugin import durable_files
from csi_plugin.node import target_paths
from csi_plugin.node.stage_spec import StageSpec
from csi_plugin.protocol.errors import RpcError

LOG = logging.getLogger(__name__)

_STORED_NAMES = {
    "sealed_connection": "sealed",
    "device_info": "device",
    "device_path": "path",
    "path_count": "paths",
    "device_identity": "identity",
}
"""Names in the files where they are other ones: an upgraded node reads what its predecessor has written."""
_FIELD_NAMES = {stored: name for name, stored in _STORED_NAMES.items()}


_DAMAGES = (ValueError, TypeError, AttributeError, RecursionError)
"""What reading a damaged file may end with."""


class StateUnreadable(RpcError):
    """The volume was staged here, or was being so, and its state file is damaged. gRPC: FAILED_PRECONDITION.

    Unpublish, unstage and stage do without the state.
    """

    def __init__(self, volume_id: str, path: Path, error: Exception) -> None:
        super().__init__(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"volume_id: the state of volume {volume_id}, {path}, cannot be read ({error}); stage the volume again, "
            "which writes it anew",
        )


@dataclass(kw_only=True, slots=True)
class VolumeState:
    """A volume that is staged here, or was being staged or unstaged."""

    volume_id: str
    staging_path: str
    access_type: str
    """mount or block."""
    access_mode: str
    filesystem: str = ""
    """The one that it has, or that was asked for as long as it has none."""
    mount_flags: list[str] = field(default_factory=list)
    sealed_connection: str = ""
    """Base64 of the connection information, sealed to this node."""
    read_only: bool = False
    device_info: dict[str, Any] | None = None
    """os-brick's; None until connected."""
    device_path: str = ""
    """The block device to use: the decrypted one of an encrypted volume."""
    path_count: int = 0
    """Over how many paths the storage should be reached: what its connection names, or was seen."""
    device_identity: str = ""
    """Whose device it is: the kernel gives the name to another volume's after a reboot."""
    attached_identity: str = ""
    """The same of os-brick's device, which is below the decrypted one of an encrypted volume; empty in older files."""
    unfenced: bool = False
    """Whether nothing but this node keeps it from writing when the volume is taken away."""
    encrypted: bool = False
    formatted: bool = False
    """Whether the volume was seen with content, or was given a filesystem, by this node."""
    formatting: bool = False
    """Whether mkfs has begun on the volume, which was empty, and its end was not seen."""
    staged: bool = False
    targets: dict[str, bool] = field(default_factory=dict)
    """Target paths it is published at, and whether read-only."""


def begin(spec: StageSpec, previous: VolumeState | None) -> VolumeState:
    """The state of a volume that is going to be staged. What an earlier attempt saw of its content still holds."""
    return VolumeState(
        volume_id=spec.volume_id,
        staging_path=spec.staging_path,
        access_type=spec.access_type,
        access_mode=spec.access_mode,
        filesystem=spec.filesystem,
        mount_flags=list(spec.mount_flags),
        sealed_connection=spec.sealed_connection,
        read_only=spec.read_only,
        unfenced=spec.unfenced,
        encrypted=previous.encrypted if previous is not None else False,
        formatted=previous.formatted if previous is not None else False,
        # Published anew, it may have been elsewhere since.
        formatting=previous is not None
        and previous.formatting
        and (previous.access_type, previous.sealed_connection) == (spec.access_type, spec.sealed_connection),
    )


def to_json(state: VolumeState) -> dict[str, Any]:
    """The state as it is in its file."""
    return {_STORED_NAMES.get(name, name): value for name, value in asdict(state).items()}


def from_json(stored: dict[str, Any]) -> VolumeState:
    """The state from its file. Raises TypeError or ValueError for what is none."""
    state = VolumeState(**{_FIELD_NAMES.get(name, name): value for name, value in stored.items()})
    for one in fields(state):
        if not _is_right(getattr(state, one.name), one):
            raise TypeError(f"{_STORED_NAMES.get(one.name, one.name)} is not what it should be")
    if not state.staging_path.startswith("/"):
        raise ValueError("staging_path is none")
    # Older versions kept paths as the CO wrote them.
    state.staging_path = target_paths.normalize(state.staging_path)
    state.targets = {target_paths.normalize(path): read_only for path, read_only in state.targets.items()}
    return state


def _is_right(value: object, one: "Field[Any]") -> bool:
    """Whether a value can be that of a field: a damaged file may be JSON all the same."""
    match value:
        case str():
            return one.type is str and "\0" not in value
        case bool() | int():
            return one.type is type(value)
        case list():
            return one.name == "mount_flags" and all(isinstance(item, str) for item in value)
        case dict() if one.name == "targets":
            return all(isinstance(item, bool) and "\0" not in path for path, item in value.items())
        case dict():
            return one.name == "device_info" and isinstance(value.get("path"), str)
        case _:
            return one.name == "device_info" and value is None


class VolumeStates:
    """The state files of a node. Callers hold the volume's in-flight mark."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, volume_id: str) -> VolumeState | None:
        """What is remembered of a volume. Raises StateUnreadable when its file is damaged."""
        path = self._file(volume_id)
        try:
            return self._read(path)
        except FileNotFoundError:
            return None
        except (OSError, *_DAMAGES) as error:
            raise StateUnreadable(volume_id, path, error) from error

    def save(self, state: VolumeState) -> None:
        """Write the state; it survives a crash from here on."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._file(state.volume_id)
        durable_files.write(path, json.dumps(to_json(state)).encode())

    def save_if_room(self, state: VolumeState) -> None:
        """Write the state, unless the disk is full or read-only: taking a volume away must go on, and the kernel's
        tables tell the rest."""
        try:
            self.save(state)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            LOG.warning("the state of volume %s is not up to date: %s", state.volume_id, error)

    def remove(self, volume_id: str) -> None:
        """Forget the volume. Does nothing when it is not known."""
        self._file(volume_id).unlink(missing_ok=True)
        if self._directory.exists():
            durable_files.sync_folder(self._directory)

    def all(self) -> Iterator[VolumeState]:
        """Every volume that the node remembers."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield self._read(path)
            except FileNotFoundError:
                continue  # unstaged meanwhile
            except (OSError, *_DAMAGES) as error:
                LOG.warning("%s is damaged and ignored: %s", path, error)

    def _read(self, path: Path) -> VolumeState:
        state = from_json(json.loads(path.read_bytes()))
        if self._file(state.volume_id) != path:
            raise ValueError(f"it is of volume {state.volume_id}")
        return state

    def _file(self, volume_id: str) -> Path:
        # Ids are the CO's text, which may be no name for a file.
        return self._directory / f"{hashlib.sha256(volume_id.encode()).hexdigest()}.json"
