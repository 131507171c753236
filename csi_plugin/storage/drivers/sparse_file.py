"""Crash-safe creation and copying of sparse files.

Nothing appears under its final name before all of its data is on disk: a file is written under a hidden temporary name
in the same directory, flushed, renamed, and the directory flushed.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# linux/fs.h; the fcntl module has no name for it before Python 3.14.
FICLONE = 0x40049409

_PARTIAL = ".partial-"
_CHUNK = 16 * 1024**2
_NOT_SUPPORTED = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS}


def create(path: Path, size_bytes: int) -> None:
    """Make a sparse file of ``size_bytes`` at ``path``. Raises FileExistsError when something is there."""
    with _complete(path) as file:
        os.ftruncate(file, size_bytes)


def copy(source: Path, path: Path, *, size_bytes: int, replace: bool = False) -> None:
    """Copy ``source`` to ``path``, grown to ``size_bytes``. Blocks are shared where possible, holes stay holes.

    Raises FileExistsError when ``path`` exists, unless ``replace``; then the old file is swapped for the copy at once.
    """
    origin = os.open(source, os.O_RDONLY)
    try:
        flush_attached(source)
        os.fsync(origin)
        with _complete(path, replace=replace) as file:
            if not _share(origin, file):
                _copy_data(origin, file)
            os.ftruncate(file, max(size_bytes, os.fstat(origin).st_size))
    finally:
        os.close(origin)


def grow(path: Path, size_bytes: int) -> None:
    """Grow a file in place; a file that is already as large stays as it is."""
    file = os.open(path, os.O_RDWR)
    try:
        if os.fstat(file).st_size < size_bytes:
            os.ftruncate(file, size_bytes)
            os.fsync(file)
    finally:
        os.close(file)


def remove(path: Path) -> None:
    """Remove a file for good. Does nothing when there is none."""
    with suppress(FileNotFoundError):
        path.unlink()
        flush_directory(path.parent)


def rename(old: Path, new: Path) -> None:
    """Rename within one directory, for good. Raises FileExistsError when ``new`` exists."""
    os.link(old, new)
    old.unlink()
    flush_directory(new.parent)


def remove_partial_files(directory: Path) -> None:
    """Remove what interrupted operations left; those that still run, here or in another process, hold a lock."""
    for path in directory.glob(f".*{_PARTIAL}*"):
        with suppress(FileNotFoundError, BlockingIOError):
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(file)


def flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_attached(path: Path) -> None:
    """Write out what loop devices on ``path`` still hold in their own page cache, which the file does not show."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # the device was detached meanwhile, and that has flushed it
            if backing.read_text().rstrip("\n") == str(path):
                device = os.open(f"/dev/{backing.parent.parent.name}", os.O_RDONLY)
                try:
                    os.fsync(device)
                finally:
                    os.close(device)


@contextmanager
def _complete(path: Path, *, replace: bool = False) -> Iterator[int]:
    """A new file that gets its name only when the block has filled it without an error."""
    partial = path.parent / f".{path.name}{_PARTIAL}{secrets.token_hex(8)}"
    file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
        os.fsync(file)
        if replace:
            partial.replace(path)
        else:
            os.link(partial, path)  # unlike rename, refuses to replace
        flush_directory(path.parent)
    finally:
        os.close(file)
        partial.unlink(missing_ok=True)


def _share(origin: int, file: int) -> bool:
    """Let ``file`` share all blocks of ``origin``; False where the filesystem cannot."""
    try:
        fcntl.ioctl(file, FICLONE, origin)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return False
    return True


def _copy_data(origin: int, file: int) -> None:
    """Copy the data between holes."""
    end = os.fstat(origin).st_size
    offset = 0
    while offset < end:
        try:
            start = os.lseek(origin, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        offset = os.lseek(origin, start, os.SEEK_HOLE)
        _copy_range(origin, file, start, offset)


def _copy_range(origin: int, file: int, start: int, end: int) -> None:
    while start < end:
        try:
            copied = os.copy_file_range(origin, file, min(end - start, _CHUNK), start, start)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            copied = os.pwrite(file, os.pread(origin, min(end - start, _CHUNK), start), start)
        if copied == 0:
            return  # the source shrank under us
        start += copied
