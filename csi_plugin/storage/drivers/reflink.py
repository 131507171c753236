"""Copy of an open regular file: shared extents where the filesystem can, holes kept where it can't."""

import errno
import fcntl
import os
from collections.abc import Iterator

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_CHUNK = 128 * 1024**2  # bytes for one system call: a copy of a huge file stays interruptible by a signal
_BUFFER = 1024**2  # bytes, where data has to pass through this process
# What a kernel answers for files that it can't share or copy by itself. Anything else (ENOSPC, EIO, ...) is an error.
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.ETXTBSY}


def copy_file(source: int, target: int) -> bool:
    """Give `target` the size and data of `source`, whatever it held before. Both are descriptors of regular files.

    Returns whether the data was shared (reflink). Sharing is atomic towards writers of the source; a copy is not.
    Raises OSError, and leaves the target in an undefined state then. Does not flush the target to disk.
    """
    os.ftruncate(target, 0)
    if share(source, target):
        return True
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for start, end in _data_ranges(source, size):
        _copy_range(source, target, start, end)
    return False


def share(source: int, target: int) -> bool:
    """Make `target` a reflink of `source`; False where their filesystem has none."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) in bytes of what is not a hole."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        yield start, min(end, size)
        position = end


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    position = start
    while position < end:
        try:
            copied = os.copy_file_range(source, target, min(end - position, _CHUNK), position, position)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            copied = _copy_through_memory(source, target, position, end)
        if not copied:
            raise OSError(errno.EIO, f"the file ended at byte {position} of {end} while it was read")
        position += copied


def _copy_through_memory(source: int, target: int, position: int, end: int) -> int:
    """Copy one piece at `position`; returns its bytes, 0 at the end of the source."""
    data = memoryview(os.pread(source, min(end - position, _BUFFER), position))
    written = 0
    while written < len(data):
        written += os.pwrite(target, data[written:], position + written)
    return written
