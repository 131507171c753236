"""What of a device is read before it counts as empty."""

import subprocess
from pathlib import Path

import pytest

from csi_plugin.attachment import contents, crypt_devices, host_tables
from csi_plugin.attachment.programs import ProgramFailed
from csi_plugin.units import GIB, MIB


def sparse(path: Path, size: int, *positions: int) -> str:
    with path.open("wb") as file:
        file.truncate(size)
        for position in positions:
            file.seek(position)
            file.write(b"\1")
    return str(path)


@pytest.mark.parametrize("size", [4096, MIB, 256 * MIB, 257 * MIB, 3 * GIB, 1024 * GIB])
def test_the_first_byte_that_is_not_zero_is_found(tmp_path: Path, size: int) -> None:
    assert contents.find_content(sparse(tmp_path / "empty", size)) is None
    assert contents.find_content(sparse(tmp_path / "both", size, 77, size - 1)) == 77
    assert contents.find_content(sparse(tmp_path / "last", size, size - 1)) == size - 1


@pytest.mark.parametrize("position", [64 * MIB, 256 * GIB, 128 * MIB, 25 * 128 * MIB, 75 * GIB])
def test_copies_of_superblocks_are_looked_for(tmp_path: Path, position: int) -> None:
    """Of btrfs; of ext4 in block groups 1 and 25; of xfs in its second allocation group."""
    assert contents.find_content(sparse(tmp_path / "disk", 300 * GIB, position)) == position


@pytest.mark.parametrize("size", [1, 512, 4096 * 3, 64 * MIB + 512, 256 * MIB + 512, GIB, 5 * 1024 * GIB + 512])
def test_what_is_read_is_within_the_device(size: int) -> None:
    places = list(contents.places(size))
    assert places[0][0] == 0
    assert all(offset % 4096 == 0 and 0 < length <= 2 * MIB and offset + length <= size for offset, length in places)
    assert max(offset + length for offset, length in places) == size
    assert sum(length for _, length in places) <= 257 * MIB


@pytest.mark.root
@pytest.mark.parametrize("position", [65 * MIB + 4096, 700 * MIB + 8192, 5 * GIB + 3 * MIB + 1])
def test_all_that_was_written_to_the_file_of_a_loop_device_is_read(tmp_path: Path, position: int) -> None:
    """It is between the samples of a device that cannot tell what was never written."""
    disk = sparse(tmp_path / "disk", 10 * GIB, position)
    assert contents.find_content(disk) is None
    done = subprocess.run(["losetup", "--find", "--show", disk], check=True, capture_output=True, text=True)
    device = done.stdout.strip()
    try:
        assert contents.find_content(device) == position
        with Path(disk).open("r+b") as file:
            file.seek(position)
            file.write(b"\0")
        assert contents.find_content(device) is None
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_what_is_before_the_start_does_not_count(tmp_path: Path) -> None:
    disk = sparse(tmp_path / "disk", 16 * MIB, 5, 9 * MIB)
    assert contents.find_content(disk, start=8 * MIB) == 9 * MIB
    assert contents.find_content(disk, start=10 * MIB) is None


def test_a_device_that_cannot_be_read_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match=r"cannot be read: .*No such"):
        contents.find_content(str(tmp_path / "nothing"))


@pytest.mark.parametrize("line", ["offset:  32768 sectors", "offset:  32768 [512-byte units] (16777216 [bytes])"])
def test_where_the_bytes_of_an_encrypted_device_are(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As cryptsetup 2.6 and 2.7 tell it. Mapping one needs device-mapper, which the storage lab has."""
    status = f"/dev/mapper/crypt-1 is active.\n  type:    LUKS2\n  device:  /dev/loop7\n  {line}\n  size:  1 sectors\n"
    monkeypatch.setattr(crypt_devices, "run", lambda *arguments: status)
    monkeypatch.setattr(host_tables, "device_folder", lambda path: Path("/sys/devices/virtual/block/dm-0"))
    monkeypatch.setattr(host_tables, "crypt_name", lambda folder: "crypt-1")
    monkeypatch.setattr(host_tables, "lower_devices", lambda folder: [Path("/sys/devices/virtual/block/loop7")])
    assert crypt_devices.lower_device("/dev/mapper/crypt-1") == ("/dev/loop7", 16 * MIB)
