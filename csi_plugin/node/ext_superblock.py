"""The superblock of ext2, ext3 and ext4, as bytes: what programs print of it has lines of whoever made it."""

import struct
from dataclasses import dataclass

from csi_plugin.attachment.programs import ProgramFailed, run

_START, _BYTES = 1024, 1024
# linux/fs/ext4/ext4.h, struct ext4_super_block: offsets.
_COUNT_LOW, _BLOCK_SIZE, _MAGIC, _ERRORS, _FEATURES, _COUNT_HIGH, _MOUNT_OPTIONS = 4, 24, 56, 60, 96, 336, 512
_MAGIC_NUMBER = 0xEF53
_64_BIT = 0x80
_CONTINUE = 1
_MOUNT_OPTIONS_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Superblock:
    """What counts of it."""

    size: int
    """Bytes of the filesystem."""
    block_size: int
    continues_after_errors: bool
    """As mkfs makes it; otherwise the kernel is to stop writing, or to panic."""


def read(device_path: str) -> Superblock:
    """The superblock of a device. Raises ProgramFailed."""
    # By a program, as a device that hangs must not hold this process.
    text = run("od", "-An", "-v", "-tx1", "-j", str(_START), "-N", str(_BYTES), device_path)
    content = bytes.fromhex(text)
    if len(content) < _BYTES or _word(content, _MAGIC, "<H") != _MAGIC_NUMBER:
        raise ProgramFailed(["od"], 0, f"{device_path} has no superblock of ext2, ext3 or ext4")
    block_size = 1024 << min(_word(content, _BLOCK_SIZE, "<I"), 6)
    high = _word(content, _COUNT_HIGH, "<I") if _word(content, _FEATURES, "<I") & _64_BIT else 0
    options = content[_MOUNT_OPTIONS : _MOUNT_OPTIONS + _MOUNT_OPTIONS_BYTES]
    return Superblock(
        size=(high << 32 | _word(content, _COUNT_LOW, "<I")) * block_size,
        block_size=block_size,
        continues_after_errors=_word(content, _ERRORS, "<H") == _CONTINUE and b"errors" not in options,
    )


def errors_option(device_path: str) -> str:
    """What the kernel is to do when it finds errors in the filesystem: as that says, but never to panic, which whoever
    can write to a volume could tell it. Raises ProgramFailed."""
    return "errors=continue" if read(device_path).continues_after_errors else "errors=remount-ro"


def _word(content: bytes, offset: int, form: str) -> int:
    (found,) = struct.unpack_from(form, content, offset)
    return int(found)
