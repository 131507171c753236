"""What is on a block device, as libblkid sees it."""

from dataclasses import dataclass

from csi_plugin.attachment.commands import run

_NOTHING_FOUND = 2
_AMBIVALENT = 8


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

    Raises CommandFailed when the device cannot be read.
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
    return Signature(kind="partition table" if "PTTYPE" in found else "")
