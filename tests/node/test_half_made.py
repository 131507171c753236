"""Volumes on which mkfs was cut off, by a crash or an error of the storage: made again, as nobody has used them yet."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol.errors import RpcError
from tests.support.csi import MIB
from tests.support.devices import mounts_below
from tests.support.node_services import CALL, attached, node_service, stage_request

pytestmark = pytest.mark.root


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """An empty loop device."""
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    done = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, check=True)
    yield done.stdout.strip()
    for target in reversed(mounts_below(tmp_path)):
        subprocess.run(["umount", target], check=True)
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@pytest.fixture
def mkfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """mkfs.ext4 that writes something, and is killed."""
    program = tmp_path / "programs/mkfs.ext4"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
[ "$1" != -V ] || exec {shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")} -V
for device; do :; done
echo data | dd of="$device" bs=1M seek=4 conv=notrunc,fsync 2>/dev/null
kill -9 $$
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


@pytest.mark.parametrize("was_published_anew", [False, True])
def test_filesystem_that_is_half_made_is_made_again(
    device: str, mkfs: Path, tmp_path: Path, was_published_anew: bool
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    service, context, _ = node_service(tmp_path, attach=lambda **_: attached(device), detach=lambda **_: None)
    with pytest.raises(RpcError, match="the ext4 is half-made, and is made again") as caught:
        service.NodeStageVolume(stage_request(staging), CALL)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE

    shutil.rmtree(mkfs.parent)
    request = stage_request(staging)
    if was_published_anew:  # it may have been elsewhere since
        request.publish_context["connection"] = "b3RoZXI="
        with pytest.raises(RpcError, match="data of an unknown kind"):
            service.NodeStageVolume(request, CALL)
        return
    service.NodeStageVolume(request, CALL)
    assert mounts_below(tmp_path) == [str(staging)]
    state = context.states.load("volume-1")
    assert state is not None
    assert (state.formatted, state.formatting) == (True, False)
