"""What opening a LUKS2 header takes: the header says how much memory, and storage, or who has written to it, made that.

More than the container may have would end the node's process, and every other volume's work with it.
"""

import json
from pathlib import Path

from csi_plugin.attachment.errors import EncryptionError
from csi_plugin.attachment.programs import ProgramFailed, run

_MIB = 1024**2
_MOST_BYTES = 1024 * _MIB
"""cryptsetup's own default when it formats, and the most that it takes then."""
_SHARE = 2
"""Of the memory that the container may have, no more than one part in so many."""
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of this process' control group, version 2 and 1, as its container sees them."""


def check(device: str) -> None:
    """Raises EncryptionError for a header with a key that takes more memory than this node gives."""
    try:
        text = run("cryptsetup", "luksDump", "--dump-json-metadata", device)
    except ProgramFailed:
        return  # LUKS1, whose keys take none; or nothing that can be opened, which opening tells better
    limit = _limit()
    for number, asked in memory_of_keys(text).items():
        if asked > limit:
            raise EncryptionError(
                f"key {number} of {device} asks for {asked // _MIB} MiB of memory to be opened, and this node gives "
                f"{limit // _MIB} MiB: convert the key where there is more (cryptsetup luksConvertKey --pbkdf-memory "
                "65536), or give the node's container twice as much memory as the key needs"
            )


def memory_of_keys(metadata: str) -> dict[str, int]:
    """Bytes that each key of a LUKS2 header takes to be opened, by its number. Raises EncryptionError."""
    try:
        keys = json.loads(metadata)["keyslots"]
        # What keeps track of a reencryption is listed among the keys, and has no passphrase that costs anything.
        return {
            number: int(key["kdf"].get("memory", 0)) * 1024
            for number, key in keys.items()
            if key.get("type") != "reencrypt"
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EncryptionError(f"the metadata of the LUKS2 header cannot be read: {error!r}") from error


def _limit() -> int:
    found = [_MOST_BYTES]
    for file in _LIMITS:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            found.append(int(text) // _SHARE)
    return min(found)
