"""What is on a block device, as libblkid sees it."""

import os
from dataclasses import dataclass

from csi_plugin.attachment.commands import run

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


def probe(device: str) -> Signature:
    """Read the device itself, past any cache. Several signatures at once count as content of unknown kind.

    Raises CommandFailed or OSError when the device cannot be read.
    """
    from csi_plugin.attachment.commands import CommandFailed

    try:
        text = run("blkid", "--probe", "--output", "export", device, allowed=(0, _NOTHING_FOUND))
    except CommandFailed as error:
        if error.status == _AMBIVALENT:
            return Signature(kind="several signatures")
        raise
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if "TYPE" in found:
        return Signature(kind=found["TYPE"], uuid=found.get("UUID", ""))
    if "PTTYPE" in found:
        return Signature(kind="partition table")
    # blkid says "nothing found" of a device that it could not read, too.
    _read_edges(device)
    return Signature(kind="")


def _read_edges(device: str) -> None:
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        for position in {0, max(size - _EDGE, 0)}:
            os.pread(descriptor, _EDGE, position)
    finally:
        os.close(descriptor)
