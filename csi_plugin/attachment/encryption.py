"""LUKS on a volume's device, through os-brick's encryptors.

os-brick formats whatever it cannot open. Here, what is on the device decides before it is asked: a LUKS header is
opened, an empty device is formatted when it was never used before, and anything else is refused.
"""

from pathlib import Path
from typing import Any

from csi_plugin.attachment import signatures
from csi_plugin.attachment.commands import run

PROVIDERS = ("luks", "luks2")
_NO_KEY_FITS = 2
"""cryptsetup's exit status for a wrong passphrase."""


class EncryptionError(Exception):
    """The device cannot be opened as an encrypted volume. gRPC: FAILED_PRECONDITION."""


class _Passphrase:
    """The one key that os-brick may ask for."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def get(self, context: Any, key_id: Any) -> "_Passphrase":
        return self

    def get_encoded(self) -> bytes:
        return self._secret


def must_format(device: str, *, used_before: bool) -> bool:
    """Whether the device is to be formatted (True) or opened (False).

    ``used_before``: the device was encrypted before, as recorded. Raises EncryptionError when neither is safe.
    """
    found = signatures.probe(device)
    if found.kind == "crypto_LUKS":
        return False
    if not found.is_empty:
        raise EncryptionError(f"{device} holds {found.kind}, not LUKS; it is not touched")
    if used_before:
        raise EncryptionError(f"{device} was encrypted and has no LUKS header any more; it is not formatted again")
    return True


def open_device(
    device: str, *, volume_id: str, encryption: dict[str, Any], passphrase: str, used_before: bool, root_helper: str
) -> str:
    """The decrypted device of an encrypted one. Raises EncryptionError."""
    from oslo_concurrency.processutils import ProcessExecutionError

    encryptor = _encryptor(device, volume_id, encryption["provider"], passphrase, root_helper)
    mapped = mapped_path(volume_id)
    if Path(mapped).exists():
        return mapped
    secret = encryptor._get_encryption_key_as_passphrase(None)
    if must_format(device, used_before=used_before):
        encryptor._format_volume(secret, cipher=encryption.get("cipher"), key_size=encryption.get("key_size"))
    try:
        encryptor._open_volume(secret)
    except ProcessExecutionError as error:
        if error.exit_code == _NO_KEY_FITS:
            raise EncryptionError(f"the passphrase in secrets opens no key of {device}") from None
        raise
    return mapped


def close_device(volume_id: str) -> None:
    """Close the decrypted device. Does nothing when it is not open."""
    if Path(mapped_path(volume_id)).exists():
        run("cryptsetup", "luksClose", Path(mapped_path(volume_id)).name, allowed=(0, 4))


def resize_device(
    device: str, *, volume_id: str, encryption: dict[str, Any], passphrase: str, root_helper: str
) -> None:
    """Let the decrypted device grow to its device's size."""
    secret = _encryptor(device, volume_id, encryption["provider"], passphrase, root_helper)
    run(
        "cryptsetup",
        "resize",
        "--key-file=-",
        Path(mapped_path(volume_id)).name,
        stdin=secret._get_encryption_key_as_passphrase(None).encode(),
    )


def mapped_path(volume_id: str) -> str:
    return f"/dev/mapper/crypt-{volume_id}"


def _encryptor(device: str, volume_id: str, provider: str, passphrase: str, root_helper: str) -> Any:
    from os_brick.encryptors import luks

    if provider not in PROVIDERS:
        raise EncryptionError(f"encryption must be one of {', '.join(PROVIDERS)}, not {provider!r}")
    cls = luks.Luks2Encryptor if provider == "luks2" else luks.LuksEncryptor
    # os-brick makes the passphrase of the key's hexadecimal digits.
    key = _Passphrase(passphrase.encode())
    encryptor = cls(root_helper, {"data": {"device_path": device, "volume_id": volume_id}}, key)
    encryptor.dev_name = Path(mapped_path(volume_id)).name
    return encryptor


def passphrase_of(secrets: dict[str, str]) -> str:
    """The passphrase among a request's secrets. Raises EncryptionError naming the key that is missing."""
    passphrase = secrets.get("passphrase", "")
    if not passphrase:
        raise EncryptionError("secrets must have the passphrase of this encrypted volume under the key passphrase")
    return passphrase
