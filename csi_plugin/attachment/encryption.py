"""LUKS on a volume's device, through cryptsetup, as os-brick's encryptors write it.

os-brick formats whatever it cannot open. Here, what is on the device decides: a LUKS header is opened, an empty device
is formatted when it was never used before, and anything else is refused.

A volume may be larger by whole GiB than what it is to hold (``header_gib``): the data then begins behind these, so that
the decrypted device has exactly the size that was asked for, whoever opens it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csi_plugin.attachment import luks_headers, signatures
from csi_plugin.attachment.errors import EncryptionError
from csi_plugin.attachment.host_tables import device_folder, dm_name, lower_devices, named_folders
from csi_plugin.attachment.programs import ProgramFailed, run
from csi_plugin.units import GIB

LOG = logging.getLogger(__name__)

_SECTOR_BYTES = 512
_TYPES = {"luks": "luks1", "luks2": "luks2"}
"""cryptsetup's names of the encryption providers."""
_KEY_MEMORY_KIB = 64 * 1024
"""Taken to open a volume. cryptsetup's own 1 GiB is more than a container may have; it is for weaker secrets."""
_LUKS2_KEYS_BYTES = 16 * 1024**2 - 2 * 16 * 1024
"""cryptsetup's own size of the area for keys, which grows to 128 MiB where there is room before the data."""
_UNUSED_FROM_BYTES = 32 * 1024**2
"""Where neither version of LUKS has anything of its header."""
_FORMAT_SECONDS = 500
"""cryptsetup writes zeroes over all that is before the data."""
_NO_KEY_FITS = 2
"""cryptsetup's exit status for a wrong passphrase."""


def must_format(device: str, *, used_before: bool) -> bool:
    """Whether the device is to be formatted (True) or opened (False).

    ``used_before``: the device was encrypted before, as recorded. Raises EncryptionError when neither is safe.
    """
    found = signatures.probe(device)
    if found.kind == "crypto_LUKS":
        if used_before or not luks_headers.is_unfinished(device):
            return False
        LOG.warning("%s has a LUKS header without any key, as formatting it was cut off: it is formatted again", device)
        return True
    if not found.is_empty:
        advice = f". {found.advice}" if found.advice else ""
        raise EncryptionError(f"{device} holds {found.kind}, not LUKS; it is not touched{advice}")
    if used_before:
        raise EncryptionError(f"{device} was encrypted and has no LUKS header any more; it is not formatted again")
    return True


def open_device(
    device: str,
    *,
    volume_id: str,
    encryption: dict[str, Any],
    passphrase: str,
    used_before: bool,
    read_only: bool = False,
) -> str:
    """The decrypted device of an encrypted one. Raises EncryptionError."""
    mapped = mapped_path(volume_id)
    if _is_open(volume_id):
        if not Path(mapped).exists():
            run("dmsetup", "mknodes", Path(mapped).name)  # what was cut off, or udev, has not made
        if _is_over(mapped, device):
            return mapped
        # Left over from a connection that was lost: the device that it decrypts is another, or gone.
        close_device(volume_id)
    if must_format(device, used_before=used_before):
        _format(device, encryption, passphrase)
    options = ["--readonly"] if read_only else []
    if encryption.get("discards") == "true":
        options.append("--allow-discards")
    try:
        with _with_header(device) as command:
            run(*command, "luksOpen", *options, device, Path(mapped).name, stdin=passphrase.encode())
    except ProgramFailed as error:
        if error.status == _NO_KEY_FITS:
            raise EncryptionError(f"the passphrase in secrets opens no key of {device}") from None
        raise
    return mapped


@contextmanager
def _with_header(device: str) -> Iterator[list[str]]:
    """The words that begin a command which opens a key of a device with its header as it was looked at."""
    with luks_headers.copy_header(device) as header:
        options = ["--header", header] if header else []
        yield [*luks_headers.bounded("cryptsetup"), "--key-file=-", *options]


def _is_open(volume_id: str) -> bool:
    """By the kernel's table: the name below /dev/mapper may be absent."""
    name = Path(mapped_path(volume_id)).name
    return any(dm_name(folder) == name for folder in named_folders("dm-*"))


def _is_over(mapped: str, device: str) -> bool:
    """Whether a decrypted device is that of an encrypted one."""
    return lower_devices(device_folder(mapped)) == [device_folder(device)]


def _format(device: str, encryption: dict[str, Any], passphrase: str) -> None:
    options = ["--type", _type(encryption["provider"])]
    if encryption["provider"] == "luks2":
        options += ["--pbkdf-memory", str(_KEY_MEMORY_KIB), "--luks2-keyslots-size", str(_LUKS2_KEYS_BYTES)]
    if cipher := encryption.get("cipher"):
        options += ["--cipher", cipher]
    if key_size := encryption.get("key_size"):
        options += ["--key-size", str(key_size)]
    header_bytes = int(encryption.get("header_gib", 0)) * GIB
    if header_bytes:
        options += ["--offset", str(header_bytes // _SECTOR_BYTES)]
    command = ("cryptsetup", "luksFormat", "--batch-mode", "--key-file=-")
    run(*command, *options, device, stdin=passphrase.encode(), timeout=_FORMAT_SECONDS)
    if header_bytes:
        _discard(device, start=_UNUSED_FROM_BYTES, end=header_bytes)


def _discard(device: str, *, start: int, end: int) -> None:
    """Let a thin storage have what it was given for zeroes that nobody reads, if it takes that."""
    try:
        run("blkdiscard", "--force", "--offset", str(start), "--length", str(end - start), device)
    except ProgramFailed as error:
        LOG.debug("%s keeps what its LUKS header does not use: %s", device, error)


def _type(provider: str) -> str:
    if provider not in _TYPES:
        raise EncryptionError(f"encryption must be one of {', '.join(_TYPES)}, not {provider!r}")
    return _TYPES[provider]


def close_device(volume_id: str) -> None:
    """Close the decrypted device. Does nothing when it is not open."""
    if _is_open(volume_id):
        run("cryptsetup", "luksClose", Path(mapped_path(volume_id)).name, allowed=(0, 4))


def resize_device(*, volume_id: str, passphrase: str) -> None:
    """Let the decrypted device grow to its device's size."""
    mapped = mapped_path(volume_id)
    (lower,) = lower_devices(device_folder(mapped))
    with _with_header(f"/dev/{lower.name.replace('!', '/')}") as command:
        run(*command, "resize", Path(mapped).name, stdin=passphrase.encode())


def mapped_path(volume_id: str) -> str:
    return f"/dev/mapper/crypt-{volume_id}"


def passphrase_of(secrets: dict[str, str]) -> str:
    """The passphrase among a request's secrets. Raises EncryptionError naming the key that is missing."""
    passphrase = secrets.get("passphrase", "")
    if not passphrase:
        raise EncryptionError("secrets must have the passphrase of this encrypted volume under the key passphrase")
    return passphrase
