"""The file of a SQLite database: for nobody else's eyes, and refused with the reason where it cannot work.

Nothing but SQLite opens it in this process: closing it would give up the locks that SQLite has on it (they are POSIX's,
which are a process's), and another process, thinking itself the last, would remove the log with our latest commits.
"""

import logging
import os
import sqlite3
import stat
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from csi_plugin.persistence.base import InvalidPersistence

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
        os.mknod(path, _MODE | stat.S_IFREG)
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
    if not (path.is_file() and os.access(path, os.R_OK | os.W_OK, effective_ids=True)):
        raise InvalidPersistence(
            f"database {path}: cannot be read and written as a file; give it, and its folder, to this process's user"
        )
    if not os.access(path.parent, os.W_OK, effective_ids=True):
        raise InvalidPersistence(
            f"database {path}: files beside it cannot be written: folder {path.parent} is read-only"
        )
    if not _is_database(path):
        raise InvalidPersistence(f"database {path}: is no SQLite database; name another file, or move this one away")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & ~_MODE:
        _warn(path, mode)


def _is_database(path: Path) -> bool:
    """Whether SQLite takes it for one; what else may be wrong is found when it is used."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path, timeout=0)) as connection:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                return False
            raise
    return True


@cache
def _warn(path: Path, mode: int) -> None:
    """Once for each."""
    _LOG.warning("database %s has mode %04o: others may read the passwords in it (`chmod 600 %s*`)", path, mode, path)
