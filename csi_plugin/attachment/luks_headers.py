"""LUKS headers, of which storage, or who has written to it, may say what it likes, and another thing each time.

A volume is opened with a copy of its header, which is looked at before. A header may ask for more memory than the
container has, which would end the node's process, and every other volume's work with it. It may also have no
encryption, of the data or of the key, so that the storage could read all that is written from then on.
"""

import json
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from csi_plugin.attachment import contents
from csi_plugin.attachment.errors import EncryptionError
from csi_plugin.attachment.programs import run
from csi_plugin.units import MIB

_MOST_BYTES = 1024 * MIB
"""cryptsetup's own default when it formats, and the most that it takes then."""
_SHARE = 2
"""Of the memory that the container may have, no more than one part in so many."""
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of this process' control group, version 2 and 1, as its container sees them."""
_OWN_BYTES = 192 * MIB
"""What cryptsetup takes besides, with the largest header that LUKS2 allows."""
_MOST_HEADER_BYTES = 160 * MIB

_LUKS1 = struct.Struct(">6sH32s32s32sI")
"""Magic, version, cipher, mode, hash, and the sector where data begins."""
_LUKS1_MAGIC = b"LUKS\xba\xbe"
_LUKS1_KEYS = range(208, 592, 48)
_LUKS1_KEY_ENABLED = b"\x00\xac\x71\xf3"
_PLAIN = "null"
"""Stands for the cipher of data that is not encrypted at all."""
_SECTOR_BYTES = 512
_BLOCK_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Header:
    """What counts of a header."""

    key_bytes: dict[str, int]
    """Memory that each key takes to be opened, by its number; keys of LUKS1 take none."""
    ciphers: frozenset[str]
    """Of the data, and of the keys."""
    data_offset: int
    """Byte at which the data begins."""
    is_being_reencrypted: bool = False


@contextmanager
def copy_header(device: str) -> Iterator[str | None]:
    """Context manager: the path of a copy of a device's header, in which nothing is wrong. None where cryptsetup has to
    have the header itself, as it writes there how far a reencryption has come.

    Raises EncryptionError for a header that nothing is opened with, and ProgramFailed where there is none.
    """
    with tempfile.TemporaryDirectory(prefix="luks-") as folder:
        file = f"{folder}/header"
        run(*bounded("cryptsetup"), "luksHeaderBackup", device, "--header-backup-file", file)
        header = read(file)
        _check(header, device)
        yield None if header.is_being_reencrypted else file


def read(path: str) -> Header:
    """The header at the beginning of a device or file. Raises EncryptionError, ProgramFailed and OSError."""
    return _read_luks1(path) or _read_luks2(path)


def is_unfinished(device: str) -> bool:
    """Whether formatting a device was cut off: its header has no key yet, and nothing is written where data would be.

    Nobody can have opened such a device, and nobody ever can. Raises EncryptionError, ProgramFailed and OSError.
    """
    header = read(device)
    if header.key_bytes or header.is_being_reencrypted:
        return False
    start = header.data_offset - header.data_offset % _BLOCK_BYTES
    return contents.find_content(device, start=start) is None


def bounded(program: str) -> list[str]:
    """The words that run a program with no more memory than a header may ask for, whatever it is that it reads."""
    return ["prlimit", f"--data={_limit() + _OWN_BYTES}", f"--fsize={_MOST_HEADER_BYTES}", program]


def _check(header: Header, device: str) -> None:
    """Raises EncryptionError for a header with a key that takes more memory than this node gives, or without
    encryption."""
    if weak := sorted(cipher for cipher in header.ciphers if _is_weak(cipher)):
        raise EncryptionError(
            f"the LUKS header of {device} says that its data or its keys are to be written as {', '.join(weak)}, which "
            "hides nothing from the storage; nobody but the storage itself, or who could write to the volume, makes "
            "such a header"
        )
    if not (header.key_bytes or header.is_being_reencrypted):
        raise EncryptionError(
            f"the LUKS header of {device} has no key, so nobody can open it, and the device is in use or has data: put "
            "back a copy of its header (cryptsetup luksHeaderRestore)"
        )
    limit = _limit()
    for number, asked in header.key_bytes.items():
        if asked > limit:
            raise EncryptionError(
                f"key {number} of {device} asks for {asked // MIB} MiB of memory to be opened, and this node gives "
                f"{limit // MIB} MiB: convert the key where there is more (cryptsetup luksConvertKey --pbkdf-memory "
                "65536), or give the node's container twice as much memory as the key needs"
            )


def _is_weak(cipher: str) -> bool:
    """Whether bytes are written as they are, or all that are alike as alike ones."""
    return "null" in cipher or cipher.partition("-")[2].startswith("ecb")


def _read_luks1(path: str) -> Header | None:
    with Path(path).open("rb") as file:
        content = file.read(_LUKS1_KEYS.stop)
    if len(content) < _LUKS1_KEYS.stop:
        return None
    magic, version, cipher, mode, _, sector = _LUKS1.unpack_from(content)
    if (magic, version) != (_LUKS1_MAGIC, 1):
        return None
    enabled = [content[place : place + 4] == _LUKS1_KEY_ENABLED for place in _LUKS1_KEYS]
    words = [text.rstrip(b"\0").decode(errors="replace") for text in (cipher, mode)]
    return Header(
        key_bytes={str(number): 0 for number, is_enabled in enumerate(enabled) if is_enabled},
        ciphers=frozenset(["-".join(words)]),
        data_offset=sector * _SECTOR_BYTES,
    )


def _read_luks2(path: str) -> Header:
    text = run(*bounded("cryptsetup"), "luksDump", "--dump-json-metadata", path)
    try:
        metadata = json.loads(text)
        # What keeps track of a reencryption is listed among the keys, and has no passphrase that costs anything.
        keys = {number: key for number, key in metadata["keyslots"].items() if key.get("type") != "reencrypt"}
        segments = list(metadata["segments"].values())
        return Header(
            key_bytes={number: int(key["kdf"].get("memory", 0)) * 1024 for number, key in keys.items()},
            ciphers=frozenset(
                [
                    *(str(key["area"]["encryption"]) for key in keys.values()),
                    *(str(segment.get("encryption", _PLAIN)) for segment in segments),
                ]
            ),
            data_offset=min((int(segment["offset"]) for segment in segments), default=0),
            is_being_reencrypted=len(keys) < len(metadata["keyslots"]),
        )
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
