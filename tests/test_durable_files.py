"""Files that must be whole whatever happens while they are written."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csi_plugin import durable_files


def test_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    durable_files.write(path, b"new" * 10_000, mode=0o640)
    assert path.read_bytes() == b"new" * 10_000
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_what_a_crash_left_is_no_part_of_the_next_content(tmp_path: Path) -> None:
    (tmp_path / ".state.partial").write_bytes(b"longer than what comes now")
    durable_files.write(tmp_path / "state", b"now")
    assert (tmp_path / "state").read_bytes() == b"now"


def test_a_write_that_takes_only_a_part_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:7]))
    durable_files.write(tmp_path / "state", b"0123456789" * 10)
    assert (tmp_path / "state").read_bytes() == b"0123456789" * 10


def test_a_disk_that_does_not_give_back_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_bytes(b"old")
    monkeypatch.setattr(os, "pread", lambda file, length, offset: b"")
    with pytest.raises(OSError, match="written to it"):
        durable_files.write(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"old"


def test_many_writers_of_one_path(tmp_path: Path) -> None:
    contents = [bytes([65 + number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: durable_files.write(tmp_path / "state", content), contents * 4))
    assert (tmp_path / "state").read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(4 * 1024**2)
        subprocess.run(["mkfs.ext4", "-q", "-m0", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
def test_full_disk_keeps_the_old_content(small_disk: Path) -> None:
    path = small_disk / "state"
    durable_files.write(path, b"old" * 1000)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filling").write_bytes(bytes(64 * 1024**2))
    os.truncate(
        small_disk / "filling", (small_disk / "filling").stat().st_size // 4096 * 4096 - 4096
    )  # one page is left
    with pytest.raises(OSError, match="No space left"):
        durable_files.write(path, b"new" * 4000)
    assert path.read_bytes() == b"old" * 1000
    assert sorted(entry.name for entry in small_disk.iterdir() if entry.name != "lost+found") == ["filling", "state"]
