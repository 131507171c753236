"""What is on a block device: what libblkid knows, or data that it does not know, or nothing."""

from dataclasses import dataclass

from csi_plugin.attachment import contents, crypt_devices
from csi_plugin.attachment.programs import ProgramFailed, run

_NOTHING_FOUND = 2
_AMBIVALENT = 8


@dataclass(frozen=True, kw_only=True)
class Signature:
    """``kind``: filesystem or other content (``ext4``, ``crypto_LUKS``, ``partition table``...), empty for none."""

    kind: str
    uuid: str = ""
    advice: str = ""
    """What a person can do about content that is in the way; empty where the kind says it all."""
    is_known: bool = True
    """False for data of which nobody can say what it is."""

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
    # blkid says "nothing found" of a damaged filesystem, and of a device that it could not read, too.
    return found if not found.is_empty else _probe_contents(device_path)


def _probe_contents(device_path: str) -> Signature:
    # What an encrypted device shows where nothing was written is noise: the device below it has zeroes there.
    written_path, start = crypt_devices.lower_device(device_path) or (device_path, 0)
    position = contents.find_content(written_path, start=start)
    if position is None:
        return Signature(kind="")
    return Signature(
        kind=f"data of an unknown kind (byte {position} of {written_path} is not zero)",
        is_known=False,
        advice=(
            "Use it as a raw block volume to get at it. If it is a damaged filesystem, repair it. If nobody needs what "
            f"is there, write zeroes over all of it ({_zeroing(written_path, start)}), or delete the volume"
        ),
    )


def _zeroing(device_path: str, start: int) -> str:
    """Commands that make a device empty, from a byte on: below an encrypted one, its header stays."""
    if not start:
        return f"blkdiscard -z {device_path}, or dd if=/dev/zero of={device_path} bs=1M"
    return (
        f"blkdiscard -f -z -o {start} {device_path}, or "
        f"dd if=/dev/zero of={device_path} bs=1M oflag=seek_bytes seek={start}"
    )


def parse_blkid(text: str) -> Signature:
    """What ``blkid --output export`` tells, as NAME=value lines."""
    found = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
    if "TYPE" in found:
        return Signature(kind=found["TYPE"], uuid=found.get("UUID", ""))
    return Signature(kind="partition table" if "PTTYPE" in found else "")
