"""Files that are there whole, or as they were before: states, keys and configuration that must survive anything.

A full disk, a crash or a power cut at any point leaves the old content, or the new. One function for all of them.
"""

import fcntl
import os
from pathlib import Path


def write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put a file in place of what the path has, if anything; it survives a crash from here on.

    The folder must exist. Writers of one path wait for each other, also in different processes. Raises OSError, with
    the old file untouched, when there is no room, or the disk does not give back what was written.
    """
    partial = path.with_name(f".{path.name}.partial")
    file = _open_locked(partial, mode)
    try:
        try:
            os.fchmod(file, mode)
            os.ftruncate(file, 0)  # a crash may have left something
            _write_all(file, content)
            os.fsync(file)
            _verify(file, content, partial)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    finally:
        os.close(file)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were added to a folder, or removed from it, survive a crash. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_locked(partial: Path, mode: int) -> int:
    """The partial file, with a lock that ends when it is closed: whoever has it is the only writer."""
    while True:
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, partial):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # the one that had the lock has renamed it


def _is_at(file: int, path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(file))


def _write_all(file: int, content: bytes) -> None:
    """A write takes as much as there is room for, and says so; only the next one fails."""
    written = 0
    while written < len(content):
        written += os.write(file, content[written:])


def _verify(file: int, content: bytes, path: Path) -> None:
    found = b""
    while block := os.pread(file, 1024**2, len(found)):
        found += block
    if found != content:
        raise OSError(f"{path} has {len(found)} bytes that are not the {len(content)} bytes written to it")
