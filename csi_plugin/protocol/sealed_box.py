"""Sealing of data to one node: what the controller sends through the orchestrator, only that node can read.

X25519 with an ephemeral key on the sender's side, HKDF-SHA256, AES-256-GCM. The wire form is
``version (1) | ephemeral public key (32) | ciphertext and tag``. A key derived from an ephemeral one encrypts
exactly one message, so the nonce is derived beside it instead of being sent.

``cryptography`` is imported inside the functions: an idle node must not have it in memory.
"""

_VERSION = b"\x01"
_KEY_LENGTH = 32
_INFO = b"cinderbox sealed box 1"


class SealedBoxError(Exception):
    """The box is damaged, or was sealed to another key or with other associated data. gRPC: FAILED_PRECONDITION."""


def generate_private_key() -> bytes:
    """A new X25519 private key, raw, 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.generate().private_bytes_raw()


def public_key_of(private_key: bytes) -> bytes:
    """The raw public key (32 bytes) that belongs to a raw private key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def seal_to_node(public_key: bytes, data: bytes, *, associated_data: bytes) -> bytes:
    """Encrypt ``data`` so that only the holder of the private key reads it, and only with the same associated data.

    ``public_key`` is raw, 32 bytes; ``associated_data`` says what the data is for (``node_id/volume_id``) and is
    authenticated, not sent. Raises SealedBoxError for a key that is not a usable X25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    ephemeral = X25519PrivateKey.generate()
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise SealedBoxError(f"public_key must be a raw X25519 key of {_KEY_LENGTH} bytes: {error}") from error
    key, nonce = _derive(shared, ephemeral_public, public_key)
    return _VERSION + ephemeral_public + AESGCM(key).encrypt(nonce, data, associated_data)


def open_from_controller(private_key: bytes, sealed: bytes, *, associated_data: bytes) -> bytes:
    """The data that ``seal_to_node`` sealed to this key with this associated data. Raises SealedBoxError otherwise."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if sealed[:1] != _VERSION:
        raise SealedBoxError(f"sealed data must begin with version byte {_VERSION[0]}")
    ephemeral_public, ciphertext = sealed[1 : 1 + _KEY_LENGTH], sealed[1 + _KEY_LENGTH :]
    try:
        private = X25519PrivateKey.from_private_bytes(private_key)
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral_public))
        key, nonce = _derive(shared, ephemeral_public, private.public_key().public_bytes_raw())
        return AESGCM(key).decrypt(nonce, ciphertext, associated_data)
    except (ValueError, InvalidTag) as error:
        raise SealedBoxError("sealed data is damaged, or is for another node or volume") from error


def _derive(shared: bytes, ephemeral_public: bytes, recipient_public: bytes) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    material = HKDF(
        algorithm=SHA256(), length=_KEY_LENGTH + 12, salt=ephemeral_public + recipient_public, info=_INFO
    ).derive(shared)
    return material[:_KEY_LENGTH], material[_KEY_LENGTH:]
