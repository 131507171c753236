"""The sealed box in which connection data travels to a node."""

import os
import subprocess
import sys

import pytest

from csi_plugin.protocol.sealed_box import (
    SealedBoxError,
    generate_private_key,
    open_from_controller,
    public_key_of,
    seal_to_node,
)

ASSOCIATED_DATA = b"node-1/volume"


@pytest.mark.parametrize("data", [b"", b"secret", os.urandom(100_000)])
def test_the_node_reads_what_was_sealed_to_it(data: bytes) -> None:
    key = generate_private_key()
    sealed = seal_to_node(public_key_of(key), data, associated_data=ASSOCIATED_DATA)
    assert open_from_controller(key, sealed, associated_data=ASSOCIATED_DATA) == data
    assert not data or data not in sealed
    assert sealed != seal_to_node(public_key_of(key), data, associated_data=ASSOCIATED_DATA)


def test_nobody_else_does() -> None:
    key = generate_private_key()
    sealed = seal_to_node(public_key_of(key), b"secret", associated_data=ASSOCIATED_DATA)
    with pytest.raises(SealedBoxError, match="another node or volume"):
        open_from_controller(generate_private_key(), sealed, associated_data=ASSOCIATED_DATA)
    with pytest.raises(SealedBoxError, match="another node or volume"):
        open_from_controller(key, sealed, associated_data=b"node-1/other")


def test_damage_is_noticed_wherever_it_is() -> None:
    key = generate_private_key()
    sealed = seal_to_node(public_key_of(key), b"secret", associated_data=ASSOCIATED_DATA)
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(SealedBoxError):
            open_from_controller(key, bytes(damaged), associated_data=ASSOCIATED_DATA)
    for length in range(len(sealed)):
        with pytest.raises(SealedBoxError):
            open_from_controller(key, sealed[:length], associated_data=ASSOCIATED_DATA)


@pytest.mark.parametrize("public_key", [b"", b"short", b"\0" * 32])
def test_an_unusable_public_key_is_refused(public_key: bytes) -> None:
    with pytest.raises(SealedBoxError, match="public_key"):
        seal_to_node(public_key, b"secret", associated_data=ASSOCIATED_DATA)


def test_importing_it_does_not_load_cryptography() -> None:
    code = "import sys, csi_plugin.protocol.sealed_box; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
