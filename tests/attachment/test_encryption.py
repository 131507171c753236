"""What is done with an encrypted volume's device: opened, formatted once, or left alone. Mapping it needs
device-mapper, which the storage lab has; the decision before that needs real LUKS headers, which any file can hold."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.attachment import encryption, luks_headers, signatures
from csi_plugin.attachment.errors import EncryptionError
from csi_plugin.attachment.host_tables import device_size
from csi_plugin.attachment.programs import ProgramFailed
from tests.support.csi import GIB


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(64 * 1024**2)
    return path


def format_luks(path: Path, *options: str) -> None:
    command = "cryptsetup luksFormat --batch-mode --pbkdf=pbkdf2 --pbkdf-force-iterations=1000 --key-file=-"
    subprocess.run([*command.split(), *options, str(path)], input=b"key", check=True)


@pytest.mark.parametrize("used_before", [True, False])
@pytest.mark.parametrize("version", ["luks1", "luks2"])
def test_a_header_is_opened(disk: Path, version: str, used_before: bool) -> None:
    format_luks(disk, f"--type={version}")
    assert encryption.must_format(str(disk), used_before=used_before) is False


def test_an_empty_device_is_formatted_the_first_time_only(disk: Path) -> None:
    assert encryption.must_format(str(disk), used_before=False) is True
    with pytest.raises(EncryptionError, match="no LUKS header any more"):
        encryption.must_format(str(disk), used_before=True)


@pytest.mark.parametrize(("command", "mib"), [("mkfs.ext4 -q", 32), ("mkfs.xfs -q -f", 300), ("mkswap", 32)])
def test_other_content_is_left_alone(disk: Path, command: str, mib: int) -> None:
    with disk.open("r+b") as file:
        file.truncate(mib * 1024**2)
    subprocess.run([*command.split(), str(disk)], check=True, capture_output=True)
    before = disk.read_bytes()
    with pytest.raises(EncryptionError, match="not LUKS; it is not touched"):
        encryption.must_format(str(disk), used_before=False)
    assert disk.read_bytes() == before


def test_a_header_that_cannot_be_read_is_an_error(disk: Path) -> None:
    format_luks(disk)
    disk.rename(disk.with_name("away"))
    for used_before in (False, True):
        with pytest.raises((OSError, ProgramFailed)):
            encryption.must_format(str(disk), used_before=used_before)


def ask_for_memory(path: Path, kib: int) -> None:
    """Let both headers of a LUKS2 device say that its keys need so much memory."""

    def ask(metadata: dict[str, Any]) -> None:
        for key in metadata["keyslots"].values():
            key["kdf"]["memory"] = kib

    change_header(path, ask)


def change_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """As storage can: both headers of a LUKS2 device, with right checksums."""
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[8:16], "big")
    for start in (0, size):
        header = memoryview(content)[start : start + size]
        metadata = json.loads(bytes(header[4096:]).rstrip(b"\0"))
        change(metadata)
        header[4096:] = json.dumps(metadata).encode().ljust(size - 4096, b"\0")
        header[448:512] = bytes(64)
        header[448:480] = hashlib.sha256(header).digest()
    path.write_bytes(content)


def check_header(path: Path) -> None:
    with luks_headers.copy_header(str(path)):
        pass


@pytest.mark.parametrize("version", ["luks1", "luks2"])
def test_formatting_that_was_cut_off_is_done_again(disk: Path, version: str) -> None:
    """cryptsetup writes a header first, and then takes a second or more for the key."""
    format_luks(disk, f"--type={version}")
    subprocess.run(["cryptsetup", "luksErase", "--batch-mode", str(disk)], check=True)
    assert encryption.must_format(str(disk), used_before=False) is True

    assert encryption.must_format(str(disk), used_before=True) is False
    with pytest.raises(EncryptionError, match="has no key"):
        check_header(disk)

    with disk.open("r+b") as file:
        file.seek(32 * 1024**2)
        file.write(b"data")
    assert encryption.must_format(str(disk), used_before=False) is False


def say_nothing_is_encrypted(metadata: dict[str, Any]) -> None:
    metadata["segments"]["0"]["encryption"] = "cipher_null-ecb"


def say_the_key_is_not_encrypted(metadata: dict[str, Any]) -> None:
    metadata["keyslots"]["0"]["area"]["encryption"] = "cipher_null-ecb"


def say_alike_is_alike(metadata: dict[str, Any]) -> None:
    metadata["segments"]["0"]["encryption"] = "aes-ecb"


@pytest.mark.parametrize("change", [say_nothing_is_encrypted, say_the_key_is_not_encrypted, say_alike_is_alike])
def test_a_header_that_hides_nothing_is_not_opened(disk: Path, change: Callable[[dict[str, Any]], None]) -> None:
    format_luks(disk, "--type=luks2")
    change_header(disk, change)
    with pytest.raises(EncryptionError, match="hides nothing from the storage"):
        encryption.open_device(
            str(disk), volume_id="none", encryption={"provider": "luks2"}, passphrase="key", used_before=True
        )


def test_a_header_that_changes_after_it_was_looked_at(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    format_luks(disk, "--type=luks2")
    other = tmp_path / "other"
    shutil.copy(disk, other)
    subprocess.run(["cryptsetup", "luksErase", "--batch-mode", str(other)], check=True)
    program = tmp_path / "programs/cryptsetup"
    program.parent.mkdir()
    real = shutil.which("cryptsetup", path="/usr/sbin:/sbin")
    program.write_text(
        f"""#!/bin/sh
case "$*" in
*luksOpen*) {real} --test-passphrase "$@";;
*) {real} "$@" && cp {other} {disk};;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    encryption.open_device(
        str(disk), volume_id="none", encryption={"provider": "luks2"}, passphrase="key", used_before=True
    )
    assert disk.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_header_that_asks_for_too_much_memory_is_not_opened(disk: Path, damaged: bool) -> None:
    command = (
        "cryptsetup luksFormat --batch-mode --type=luks2 --pbkdf-memory=32 --pbkdf-force-iterations=4 --key-file=-"
    )
    subprocess.run([*command.split(), str(disk)], input=b"key", check=True)
    check_header(disk)
    ask_for_memory(disk, 2 * 1024**2)
    if damaged:
        with disk.open("r+b") as file:
            file.write(bytes(512))
    with pytest.raises(EncryptionError, match="asks for 2048 MiB of memory to be opened, and this node gives"):
        encryption.open_device(
            str(disk), volume_id="none", encryption={"provider": "luks2"}, passphrase="key", used_before=True
        )


def test_a_device_that_is_being_reencrypted_is_opened(disk: Path) -> None:
    costs = ["--batch-mode", "--pbkdf-memory=32", "--pbkdf-force-iterations=4", "--key-file=-"]
    for command in (["luksFormat", "--type=luks2"], ["reencrypt", "--init-only"]):
        subprocess.run(["cryptsetup", *command, *costs, str(disk)], input=b"key", check=True)
    check_header(disk)


def test_a_damaged_header_is_not_an_empty_device(disk: Path) -> None:
    """LUKS 2 keeps a second header; an old tool that wiped the first one has not emptied the device."""
    format_luks(disk, "--type=luks2")
    with disk.open("r+b") as file:
        file.write(bytes(4096))
    for used_before in (False, True):
        assert encryption.must_format(str(disk), used_before=used_before) is False


def test_the_passphrase_is_named_when_it_is_missing() -> None:
    assert encryption.passphrase_of({"passphrase": "key"}) == "key"
    for secrets in ({}, {"passphrase": ""}, {"password": "key"}):
        with pytest.raises(EncryptionError, match="under the key passphrase"):
            encryption.passphrase_of(secrets)


def test_several_signatures_are_content(disk: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    magic_of_swap = b"SWAPSPACE2"
    with disk.open("r+b") as file:
        file.seek(4096 - len(magic_of_swap))
        file.write(magic_of_swap)
    assert not signatures.probe(str(disk)).is_empty


@pytest.fixture
def cryptsetup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A quick cryptsetup that writes down how it is called."""
    calls = tmp_path / "calls"
    program = tmp_path / "programs/cryptsetup"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
echo "$*" >>{calls}
[ "$1" != luksFormat ] || set -- --iter-time=10 "$@"
exec {shutil.which("cryptsetup", path="/usr/sbin:/sbin")} "$@"
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return calls


@pytest.fixture
def device(disk: Path) -> Iterator[str]:
    """A loop device that shows a file of 3 GiB."""
    os.truncate(disk, 3 * GIB)
    losetup = subprocess.run(["losetup", "--find", "--show", disk], capture_output=True, text=True, check=True)
    yield losetup.stdout.strip()
    subprocess.run(["losetup", "--detach", losetup.stdout.strip()], check=True)


@pytest.mark.root
@pytest.mark.parametrize("provider", ["luks", "luks2"])
def test_data_begins_behind_what_is_on_top(device: str, disk: Path, cryptsetup: Path, provider: str) -> None:
    """The decrypted device has the size that was asked for, by the header itself, so whoever opens it."""
    wanted = {"provider": provider, "header_gib": 1, "discards": "true"}
    volume_id = str(uuid.uuid4())
    try:
        mapped = encryption.open_device(
            device, volume_id=volume_id, encryption=wanted, passphrase="key", used_before=False
        )
        assert device_size(mapped) == 2 * GIB
        encryption.close_device(volume_id)
    except ProgramFailed as error:
        assert "device-mapper" in str(error)  # which not every kernel has; the storage lab's does
    assert "--allow-discards" in cryptsetup.read_text().splitlines()[-1]
    dump = subprocess.run(["cryptsetup", "luksDump", device], capture_output=True, text=True, check=True).stdout
    assert re.search(r"offset: 1073741824 \[bytes\]|Payload offset:\s2097152", dump)
    subprocess.run(["cryptsetup", "luksOpen", "--test-passphrase", "--key-file=-", device], input=b"key", check=True)
    os.sync()
    assert disk.stat().st_blocks * 512 < 64 * 1024**2
