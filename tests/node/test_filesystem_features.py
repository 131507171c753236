"""Filesystems that older kernels than the image's programs mount, and those that they cannot."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from csi_plugin.attachment.programs import run
from csi_plugin.node import filesystem_features, filesystems, mounts
from csi_plugin.node.filesystem_features import unknown_features, words_for
from csi_plugin.protocol.errors import RpcError
from tests.support.csi import MIB
from tests.support.node_services import CALL, attached, node_service, stage_request

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


@pytest.mark.root
@pytest.mark.usefixtures("programs")
def test_setting_and_parameter_reach_mkfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what this kernel cannot mount is said so, with the feature."""
    made: list[list[str]] = []
    monkeypatch.setattr(filesystems, "create", lambda _device, _filesystem, words, **_: made.append(words))
    monkeypatch.setattr(mounts, "mount", lambda *_, **__: run("false"))
    (tmp_path / "disk").write_bytes(bytes(8 * MIB))
    for kernel in ("", "5.15"):
        service, _, _ = node_service(tmp_path / f"node-{kernel}", attach=lambda **_: attached(str(tmp_path / "disk")))
        request = stage_request(tmp_path)
        if kernel:
            request.volume_context[filesystems.OLDEST_KERNEL] = kernel
        with pytest.raises(RpcError):
            service.NodeStageVolume(request, CALL)
    assert made == [["-O", "^orphan_file"], []]
    subprocess.run(["mkfs.ext4", "-q", "-O", "orphan_file", str(tmp_path / "disk")], check=True)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="5.4.0-generic"))
    with pytest.raises(RpcError, match=r"kernel, 5.4.0-generic: it has orphan_file \(Linux 5.15\)") as error:
        filesystems.mount(str(tmp_path / "disk"), str(tmp_path), "ext4", [], read_only=False)
    assert error.value.code is grpc.StatusCode.FAILED_PRECONDITION


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
