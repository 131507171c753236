"""Filesystems that older kernels than the image's programs mount, and those that they cannot."""

import subprocess
from pathlib import Path

import pytest

from csi_plugin.node import filesystem_features
from csi_plugin.node.filesystem_features import unknown_features, words_for
from tests.support.csi import MIB

NEWEST = "99.0"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """mkfs of today."""
    versions = {"mkfs.xfs": "mkfs.xfs version 6.13.0", "mkfs.ext4": "mke2fs 1.47.2 (1-Jan-2025)"}
    monkeypatch.setattr(filesystem_features, "_version_text", versions.__getitem__)


@pytest.mark.parametrize(
    ("filesystem", "words", "kernel", "expected"),
    [
        ("ext4", ["-m", "1"], "4.14", ["-O", "^orphan_file", "-m", "1"]),
        ("ext4", ["-O", "^64bit"], "5.14", ["-O", "^64bit,^orphan_file"]),
        ("ext4", ["-O^64bit", "-q"], "5.14", ["-O^64bit,^orphan_file", "-q"]),
        ("ext4", ["-O", "orphan_file"], "4.14", ["-O", "orphan_file"]),
        ("ext4", [], "5.15", []),
        ("xfs", [], "6.1", ["-i", "exchange=0", "-n", "parent=0", "-m", "metadir=0"]),
        (
            "xfs",
            ["-i", "nrext64=1"],
            "6.9",
            ["-i", "exchange=0", "-n", "parent=0", "-m", "metadir=0", "-i", "nrext64=1"],
        ),
        ("btrfs", ["-K"], "4.14", ["-K"]),
        ("xfs", [], NEWEST, []),
    ],
)
@pytest.mark.usefixtures("programs")
def test_words_of_mkfs(filesystem: str, words: list[str], kernel: str, expected: list[str]) -> None:
    assert words_for(filesystem, words, oldest_kernel=kernel) == expected


@pytest.mark.parametrize(
    ("filesystem", "newest"), [("ext4", ["-O", "orphan_file"]), ("xfs", ["-m", "bigtime=1", "-i", "nrext64=1"])]
)
def test_what_is_made_has_nothing_that_an_old_kernel_does_not_know(
    tmp_path: Path, filesystem: str, newest: list[str]
) -> None:
    image = tmp_path / "image"
    for words in (words_for(filesystem, newest, oldest_kernel=NEWEST), words_for(filesystem, [], oldest_kernel="4.14")):
        with image.open("wb") as file:
            file.truncate(512 * MIB)
        subprocess.run([f"mkfs.{filesystem}", "-q", *words, str(image)], check=True)
        unknown = unknown_features(str(image), filesystem, kernel="4.14.0-amd64")
        assert bool(unknown) == (words[-len(newest) :] == newest)
    assert unknown_features(str(image), filesystem, kernel="6.1.0-56-cloud-amd64") == []
