"""Whether anything is written on a block device: what is read of it is all zeroes, or not.

A program of its own (``python -m csi_plugin.attachment.contents DEVICE START``), so that a device that hangs holds a
process that can be given up, and not the node. It prints the offset of the first byte that is not zero, if any is not.
"""

import itertools
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from csi_plugin.attachment import host_tables
from csi_plugin.attachment.programs import run
from csi_plugin.units import GIB, MIB

_SECONDS = 600
_SMALL = 256 * MIB
"""A device up to this size is read whole."""
_BEGINNING = 64 * MIB
"""btrfs has nothing in its first MiB but its superblock, and its trees from there on; ext4 and xfs begin at once."""
_WRITTEN = GIB
"""How much is read of what was ever written to the file behind a loop device."""
_PIECE = MIB
_BLOCK = 4096
_SAMPLES = 1024
_ZEROES = bytes(_PIECE)

_BTRFS_COPIES = (64 * MIB, 256 * GIB)
_EXT_BLOCK_SIZES = (1024, 2048, 4096)
_EXT_GROUPS = (1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729, 2187, 2401, 3125, 6561)
"""The block groups that have a copy of the superblock: 1, and powers of 3, 5 and 7."""
_XFS_GROUPS = (2, 4, 8, 16, 32)
"""How many allocation groups, each with a superblock, mkfs.xfs makes of a device of less than 4 TiB."""
_XFS_LARGEST_GROUP = 1024 * GIB


def find_content(device_path: str, *, start: int = 0) -> int | None:
    """The offset of the first byte that is not zero among those that are read; None when there is none.

    ``start``: where to begin. All of a small device is read; of a larger one its beginning, its end, the places of
    superblocks and their copies, and samples at even distances; of a loop device also what its file does not have as
    holes. Raises ProgramFailed when the device cannot be read.
    """
    program = [sys.executable, "-W", "ignore", "-m", "csi_plugin.attachment.contents"]
    found = run(*program, device_path, str(start), timeout=_SECONDS).strip()
    return int(found) if found else None


def places(size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is read of a device with that many bytes, in multiples of a block."""
    beginning = size if size <= _SMALL else _BEGINNING
    for offset in range(0, beginning, _PIECE):
        yield offset, min(_PIECE, beginning - offset)
    if beginning == size:
        return
    last = _block_of(size - _PIECE)
    yield last, size - last
    for offset in sorted({_block_of(offset) for offset in (*_superblocks(size), *_even_distances(size))}):
        if beginning <= offset < last:
            yield offset, _BLOCK


def _superblocks(size: int) -> Iterator[int]:
    yield from _BTRFS_COPIES
    for block_size in _EXT_BLOCK_SIZES:
        group = 8 * block_size * block_size  # a group has as many blocks as a block has bits
        first = block_size if block_size == 1024 else 0
        yield from (number * group + first for number in _EXT_GROUPS)
    blocks = size // _BLOCK
    for count in _XFS_GROUPS:
        yield from (number * -(-blocks // count) * _BLOCK for number in range(1, count))
    yield from range(_XFS_LARGEST_GROUP, size, _XFS_LARGEST_GROUP)


def _even_distances(size: int) -> Iterator[int]:
    return (size * number // _SAMPLES for number in range(_SAMPLES))


def _block_of(offset: int) -> int:
    return offset - offset % _BLOCK


def _written(device_path: str, start: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is not a hole in the file behind a loop device, where that can be seen."""
    file = host_tables.backing_file(Path(device_path))
    if file is None:
        return
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # the places that are read of any device must do
    try:
        end, left = start, _WRITTEN
        while left > 0:
            try:
                begin = os.lseek(descriptor, end, os.SEEK_DATA)
                end = os.lseek(descriptor, begin, os.SEEK_HOLE)
            except OSError:
                return  # no more of it, or a filesystem that does not tell
            for offset in range(_block_of(begin), min(end, begin + left, size), _PIECE):
                yield offset, min(_PIECE, size - offset)
            left -= end - begin
    finally:
        os.close(descriptor)


def _read(device_path: str, start: int) -> int | None:
    # Past the page cache: another host, or the file behind a loop device, may have been written since.
    descriptor = os.open(device_path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        buffer = mmap.mmap(-1, _PIECE)  # which is aligned, as direct reading demands
        usual = ((start + offset, length) for offset, length in places(size - start))
        for offset, length in itertools.chain(usual, _written(device_path, start, size)):
            data = _read_piece(descriptor, buffer, offset, length)
            if data != _ZEROES[:length]:
                return offset + length - len(data.lstrip(b"\0"))
    finally:
        os.close(descriptor)
    return None


def _read_piece(descriptor: int, buffer: mmap.mmap, offset: int, length: int) -> bytes:
    done = 0
    while done < length:
        count = os.preadv(descriptor, [memoryview(buffer)[done:length]], offset + done)
        if not count:
            raise OSError(f"it ends at byte {offset + done}, before its size")
        done += count
    return buffer[:length]


def main() -> None:
    device_path, start = sys.argv[1:]
    try:
        found = _read(device_path, int(start))
    except OSError as error:
        sys.exit(f"{device_path} cannot be read: {error}")
    if found is not None:
        sys.stdout.write(str(found))


if __name__ == "__main__":
    main()
