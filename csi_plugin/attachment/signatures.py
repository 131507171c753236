"""What is on a block device, as libblkid sees it."""

import os
from dataclasses import dataclass

from csi_plugin.attachment.programs import ProgramFailed, run

_NOTHING_FOUND = 2
_AMBIVALENT = 8
_EDGE = 1024**2
"""Bytes at either end of a device, where every filesystem, LUKS and partition table has its signature."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """``kind``: filesystem or other content (``ext4``, ``crypto_LUKS``, ``partition table``...), empty for none."""

    kind: str
    uuid: str = ""

    @property
    def is_empty(self) -> bool:
        return not self.kind


def probe(device_path: str) -> Signature:
    """Read the device itself, past any cache. Several signatures at once count as content of unknown kind.

    Raises ProgramFailed or OSError when the device cannot be read.
    """
    try:
        text = run("blkid", "--probe", "--output", "export", device_path, allowed=(0, _NOTHING_FOUND))
    except ProgramFailed as error:
        if error.status == _AMBIVALENT:
            return Signature(kind="several signatures")
        raise
    found = parse_blkid(text)
    if found.is_empty:
        # blkid says "nothing found" of a device that it could not read, too.
        _read_edges(device_path)
    return found


def parse_blkid(text: str) -> Signature:
    """What ``blkid --output export`` tells, as NAME=value lines."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if "TYPE" in found:
        return Signature(kind=found["TYPE"], uuid=found.get("UUID", ""))
    return Signature(kind="partition table" if "PTTYPE" in found else "")


def _read_edges(device_path: str) -> None:
    descriptor = os.open(device_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        for position in {0, max(size - _EDGE, 0)}:
            os.pread(descriptor, _EDGE, position)
    finally:
        os.close(descriptor)
