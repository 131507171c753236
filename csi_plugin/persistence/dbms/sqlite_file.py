"""The file of a SQLite database: for nobody else's eyes, and refused with the reason where it cannot work."""

import logging
import os
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from csi_plugin.persistence.base import InvalidPersistence

_HEADER = b"SQLite format 3\0"
_MODE = 0o600
_LOG = logging.getLogger(__name__)


def prepare(url: sa.URL) -> None:
    """Create the file if it is absent, readable by its owner alone; SQLite gives its -wal and -shm the same rights.

    Raises InvalidPersistence, naming the path, for one that cannot be created, written, or that is no database.
    """
    path = path_of(url)
    if "mode=ro" in str(url.database) or "immutable=" in str(url.database):
        return
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _MODE))
    except FileExistsError:
        _check(path)
    except FileNotFoundError:
        raise InvalidPersistence(f"database {path}: folder {path.parent} does not exist; make it first") from None
    except OSError as error:
        raise InvalidPersistence(f"database {path}: cannot be created: {error.strerror}") from None


def path_of(url: sa.URL) -> Path:
    return Path(str(url.database).removeprefix("file:").partition("?")[0])


def open_lock(url: sa.URL) -> int:
    """A descriptor of the file beside it that is locked while the schema changes."""
    path = path_of(url)
    return os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, _MODE)


def _check(path: Path) -> None:
    try:
        with path.open("r+b") as file:
            begin = file.read(len(_HEADER))
            mode = os.fstat(file.fileno()).st_mode & 0o777
    except OSError as error:
        raise InvalidPersistence(
            f"database {path}: cannot be read and written: {error.strerror}; give it, and its folder, to this "
            "process's user"
        ) from None
    if begin and begin != _HEADER:
        raise InvalidPersistence(f"database {path}: is no SQLite database; name another file, or move this one away")
    if not os.access(path.parent, os.W_OK):
        raise InvalidPersistence(
            f"database {path}: files beside it cannot be written: folder {path.parent} is read-only"
        )
    if mode & ~_MODE:
        _warn(path, mode)


@cache
def _warn(path: Path, mode: int) -> None:
    """Once for each."""
    _LOG.warning("database %s has mode %04o: others may read the passwords in it (`chmod 600 %s*`)", path, mode, path)
