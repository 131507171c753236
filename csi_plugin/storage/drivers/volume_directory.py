"""A directory whose files are volumes and snapshots: created, grown, copied and listed, without any of Cinder.

A file appears under its name complete and flushed, or not at all, and never in place of another. Sizes are in bytes.
"""

import errno
import fcntl
import logging
import math
import os
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from csi_plugin.storage.drivers import attached_files, reflink

LOG = logging.getLogger(__name__)

_MARK = ".cinderbox-storage"
"""File with the directory's id, which tells it from the empty one that is there while its filesystem is not mounted."""
_PARTIAL = ".partial-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Seconds for which a copy that others write to is tried again. The first attempt takes as long as it needs.
_CONSISTENCY_TIMEOUT = 10.0
# Nanoseconds within which two writes may leave a file with one and the same modification time, on any kernel.
_TIMESTAMP_STEP = 20_000_000
# Extended attribute of a snapshot's file: the name of the volume it was taken from.
_SOURCE_ATTRIBUTE = "user.cinder.source"


class InvalidFileName(ValueError):
    """A name that no file of the directory can have."""


class MissingFile(FileNotFoundError):
    """The directory has no file of the name ``file_name``."""

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(errno.ENOENT, os.strerror(errno.ENOENT), str(directory / name))
        self.file_name = name


class OtherDirectory(OSError):
    """What is at the path now is not the directory that was there, as when its filesystem is not mounted."""


@dataclass(frozen=True, kw_only=True)
class FileCopy:
    """A file to be created from another one's data, both by name."""

    source: str
    target: str
    size: int = 0
    """Bytes that the target has at least."""
    keeps_source_name: bool = False
    """Whether the source's name is noted at the target (``source_name`` reads it)."""


class VolumeDirectory:
    """Files by name. Thread-safe; what concerns one and the same file is the caller's to order. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: str | None = None

    def __str__(self) -> str:
        return str(self._path)

    # Set-up and room

    def prepare(self) -> bool:
        """Create the directory where it is missing, with mode 0700, and remove what a crash left unfinished.

        Returns whether its filesystem shares extents between files (reflinks).
        """
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._path.resolve(strict=True)
        self._remove_unfinished()
        try:
            # Of empty files: what is on a full filesystem can be deleted only by a driver that starts there.
            with self._scratch_file("probe") as (first, _), self._scratch_file("probe") as (second, _):
                return reflink.share(first, second)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            LOG.warning("%s is full: not even an empty file can be created", self._path)
            return True  # it is not known, and copies try it anyway

    # Which directory it is

    @property
    def mark_path(self) -> Path:
        """The file with the directory's id."""
        return self._path / _MARK

    def read_mark(self) -> str | None:
        """The directory's id; None where it has none, or is not there."""
        try:
            return self.mark_path.read_text(encoding="utf-8", errors="replace").strip() or None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_mark(self, mark: str) -> str | None:
        """Give the directory an id unless it has one, and return the one that it has then: another may have given it
        one at the same time. None on a full filesystem."""
        try:
            with self._scratch_file(_MARK) as (descriptor, scratch):
                if os.write(descriptor, content := f"{mark}\n".encode()) < len(content):
                    return None
                os.fsync(descriptor)
                try:
                    self._publish([(scratch, self.mark_path)])
                except FileExistsError:
                    if found := self.read_mark():
                        return found
                    scratch.replace(self.mark_path)  # an empty one
                    self._flush()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return None
        return mark

    def require_mark(self, mark: str) -> None:
        """From now on, whatever is at the path has to have this id: all else raises OtherDirectory."""
        self._mark = mark

    def _check_mark(self) -> None:
        if self._mark is not None and (found := self.read_mark()) != self._mark:
            raise OtherDirectory(
                errno.ESTALE,
                f"its {_MARK} has the id {found or 'of none'}, not {self._mark}: is its filesystem mounted?",
                str(self._path),
            )

    def _remove_unfinished(self) -> None:
        """A file that is being written is locked by its writer."""
        for path in self._path.glob(f".*{_PARTIAL}*"):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                LOG.info("Removed %s, left by an interrupted operation", path)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)

    def filesystem(self) -> os.statvfs_result:
        """Room of the filesystem that has the directory."""
        self._check_mark()
        return os.statvfs(self._path)

    def files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every file that is, or can become, a volume or snapshot."""
        self._check_mark()
        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted in the meantime
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Path(entry.path), status

    # One file

    def path(self, name: str) -> Path:
        """The path of a file, whether it is there or not. Raises InvalidFileName."""
        if not is_file_name(name):
            raise InvalidFileName(f"{name!r} can't be the name of a file in {self._path}")
        return self._path / name

    def has(self, name: str) -> bool:
        """Whether there is a regular file of this name, itself and not a link to one."""
        self._check_mark()
        try:
            return stat.S_ISREG(self.path(name).lstat().st_mode)
        except FileNotFoundError:
            return False

    def create(self, name: str, size: int) -> None:
        """Create a sparse file."""
        path = self.path(name)
        with self._scratch_file(name) as (descriptor, scratch):
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
            self._publish([(scratch, path)])

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self.path(name).unlink(missing_ok=True)
        self._check_mark()  # a file that was not there may be in the filesystem that is not
        self._flush()

    def grow(self, name: str, size: int) -> int:
        """Grow a file to ``size`` and never shrink it; returns its size before. Raises MissingFile."""
        descriptor = self._open(name, os.O_RDWR)
        try:
            before = os.fstat(descriptor).st_size
            _grow(descriptor, size)
            os.fsync(descriptor)
            return before
        finally:
            os.close(descriptor)

    def round_up(self, name: str, unit: int) -> None:
        """Grow a file to a whole number of units. Raises MissingFile."""
        descriptor = self._open(name, os.O_RDWR)
        try:
            _grow(descriptor, math.ceil(os.fstat(descriptor).st_size / unit) * unit)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source_name: str, target_name: str) -> None:
        """Rename without ever replacing another file; safe to repeat after a crash."""
        source, target = self.path(source_name), self.path(target_name)
        self._check_mark()
        if source == target:
            return
        try:
            os.link(source, target)
        except FileExistsError:
            if not source.samefile(target):
                raise
        source.unlink()
        self._flush()

    # From one file to others

    def copy(self, copies: Sequence[FileCopy]) -> None:
        """Create each target from its source, all with the data of one moment: all of them or, on an error, none.

        What was written to a loop device of a source before the call is part of the copy. Raises MissingFile for a
        source, and OSError(EBUSY) where a source was written to all the time.
        """
        with ExitStack() as stack:
            sources = []
            for copy in copies:
                sources.append(self._open(copy.source, os.O_RDONLY))
                stack.callback(os.close, sources[-1])
                attached_files.flush(self.path(copy.source))
            scratch = [stack.enter_context(self._scratch_file(copy.target)) for copy in copies]
            _copy_consistently(sources, [descriptor for descriptor, _ in scratch])
            for copy, (descriptor, _) in zip(copies, scratch, strict=True):
                if copy.keeps_source_name:
                    _note_source_name(descriptor, copy.source)
                _grow(descriptor, copy.size)
                os.fsync(descriptor)
            targets = [self.path(copy.target) for copy in copies]
            self._publish([(path, target) for target, (_, path) in zip(targets, scratch, strict=True)])

    def replace_data(self, name: str, source_name: str) -> None:
        """Put another file's data in place of a file's, at the file's size. Raises MissingFile for the other one."""
        path = self.path(name)
        source = self._open(source_name, os.O_RDONLY)
        try:
            with self._scratch_file(name) as (target, scratch):
                reflink.copy_file(source, target)
                _grow(target, path.stat().st_size)
                os.fsync(target)
                scratch.replace(path)
                self._flush()
        finally:
            os.close(source)

    # How it works

    def _open(self, name: str, flags: int) -> int:
        self._check_mark()
        try:
            return os.open(self.path(name), flags | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise MissingFile(self._path, name) from None

    @contextmanager
    def _scratch_file(self, name: str) -> Iterator[tuple[int, Path]]:
        """(descriptor, path) of a new empty file that is removed at the end, or at the next start after a crash."""
        self._check_mark()
        while True:
            path = self._path / f".{name}{_PARTIAL}{uuid.uuid4().hex}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)  # a starting driver took it for an unfinished one before the lock was there
        try:
            yield descriptor, path
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _publish(self, files: Sequence[tuple[Path, Path]]) -> None:
        """Give each finished (scratch file, final path) its name: all of them, or none when one is taken."""
        published: list[Path] = []
        try:
            for scratch, path in files:
                os.link(scratch, path)
                published.append(path)
            self._flush()
        except BaseException:
            for path in published:
                path.unlink(missing_ok=True)
            raise

    def _flush(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_file_name(name: object) -> bool:
    """Whether a volume's or snapshot's file can have this name; those that start with a dot are the directory's own."""
    return isinstance(name, str) and bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def source_name(path: Path) -> str | None:
    """The name of the file that a snapshot was taken from; None where the filesystem keeps no such notes."""
    try:
        return os.getxattr(path, _SOURCE_ATTRIBUTE, follow_symlinks=False).decode(errors="replace")
    except OSError:
        return None


def _note_source_name(descriptor: int, name: str) -> None:
    try:
        os.setxattr(descriptor, _SOURCE_ATTRIBUTE, name.encode())
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # the name is only for humans
            raise


def _copy_consistently(sources: Sequence[int], targets: Sequence[int]) -> None:
    """Copy every file such that all copies show the sources at one moment.

    A reflink of one file does by itself. Otherwise modification times tell whether something was written meanwhile (a
    loop device's writes move its file's), and the copy is repeated. Raises OSError(EBUSY) when that never ends.
    """
    deadline = time.monotonic() + _CONSISTENCY_TIMEOUT
    while True:
        before = [os.fstat(source).st_mtime_ns for source in sources]
        settled = all(abs(time.time_ns() - modified) > _TIMESTAMP_STEP for modified in before)
        shared = [reflink.copy_file(source, target) for source, target in zip(sources, targets, strict=True)]
        if shared == [True] or (settled and before == [os.fstat(source).st_mtime_ns for source in sources]):
            return
        if time.monotonic() > deadline:
            raise OSError(
                errno.EBUSY,
                "the data was written to all the time while it was copied, so that the copy would mix states of "
                "different moments; pause the writers"
                + ("" if all(shared) else ", or keep loop_volumes_dir on XFS or btrfs"),
            )


def _grow(descriptor: int, size: int) -> None:
    """Grow the file to `size` bytes; never shrink it."""
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)
