"""The paths at which workloads see volumes: compared, made, and removed, without following links or touching what
others made.

The last component is never a symbolic link; those before it are the CO's own, and may be.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csi_plugin.protocol.errors import RpcError, failed_precondition

_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)
"""Of filesystems where nothing can be made: a read-only one, or the kernel's own."""


def normalize(path: str) -> str:
    """The one way to write an absolute path: no slash twice or at the end, no '.'. Links are not looked at."""
    return f"/{os.path.normpath(path).lstrip('/')}"


def resolve_parent(path: str) -> str:
    """The path with the links on the way to its last component followed; that one may be a link itself."""
    return str(Path(os.path.realpath(Path(path).parent), Path(path).name))


def check(target: str, *, is_file: bool) -> None:
    """FAILED_PRECONDITION for what is at a path and holds something, or is something else; nothing is made."""
    try:
        descriptor = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _check_empty(target, descriptor, is_file=is_file)
    finally:
        os.close(descriptor)


@contextmanager
def prepare(target: str, *, is_file: bool) -> Iterator[int]:
    """An empty file or folder to mount at, made where there is none, as a descriptor: what the path leads to may change
    while it is looked at.

    Raises FAILED_PRECONDITION for what holds something, or is something else.
    """
    try:
        descriptor = _create_and_open(Path(target), is_file=is_file)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise failed_precondition(
            f"target_path: {target} cannot be made ({error.strerror}); publish at another path"
        ) from error
    try:
        _check_empty(target, descriptor, is_file=is_file)
        yield descriptor
    finally:
        os.close(descriptor)


def _create_and_open(path: Path, *, is_file: bool) -> int:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _create(path.name, parent, is_file=is_file)
        return os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def _create(name: str, parent: int, *, is_file: bool) -> None:
    try:
        if is_file:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640, dir_fd=parent))
        else:
            os.mkdir(name, mode=0o750, dir_fd=parent)
    except FileExistsError:
        pass  # the caller looks at what it is


def _check_empty(target: str, descriptor: int, *, is_file: bool) -> None:
    status = os.fstat(descriptor)
    if is_file:
        is_empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    else:
        is_empty = stat.S_ISDIR(status.st_mode) and not any(Path(f"/proc/self/fd/{descriptor}").iterdir())
    if not is_empty:
        wanted = "an empty file" if is_file else "an empty folder"
        raise failed_precondition(
            f"target_path: {target} is {_describe(status)}; it must be {wanted}, or not exist. Move it away, or "
            "publish at another path"
        )


def remove(target: str, *, is_own: bool) -> None:
    """Remove an empty folder, or the empty file that this node made (``is_own``). Repeatable.

    Raises FAILED_PRECONDITION for anything else, which stays.
    """
    path = Path(target)
    try:
        parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        status = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(path.name, dir_fd=parent)
        elif is_own and stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(path.name, dir_fd=parent)
        else:
            raise _not_own(target, status)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _not_own(target, status) from None
    finally:
        os.close(parent)


def check_folder(path: str, *, field: str) -> None:
    """FAILED_PRECONDITION for what is no folder, as the CO has to make it; behind a symbolic link, a mount would be
    somewhere else."""
    try:
        status = Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise failed_precondition(f"{field}: {path} does not exist; the CO has to make this folder") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        return  # a mount is there whose device is gone
    if not stat.S_ISDIR(status.st_mode):
        raise failed_precondition(f"{field}: {path} is {_describe(status)}; it must be a folder")


def _not_own(target: str, status: os.stat_result) -> RpcError:
    return failed_precondition(
        f"target_path: {target} is {_describe(status)}, which this node has not made, and does not remove; move it away"
    )


def _describe(status: os.stat_result) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFBLK: "a block device's node",
        stat.S_IFCHR: "a character device's node",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a folder that is not empty",
    }
    kind = stat.S_IFMT(status.st_mode)
    return kinds.get(kind) or ("a file that is not empty" if status.st_size else "a file")
