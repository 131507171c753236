"""Filesystems that are frozen, as a backup's hook leaves them that ends, or loses its pod, before it thaws them."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.claims import Claim, MakeClaim
from tests.support.csi import GIB, fails
from tests.support.polling import wait_until

Code = grpc.StatusCode
FILESYSTEMS = ("ext4", "xfs", "btrfs")


@contextlib.contextmanager
def frozen(path: Path) -> Iterator[None]:
    """In the block, whatever writes to the filesystem waits in the kernel, and cannot be killed."""
    subprocess.run(["fsfreeze", "--freeze", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(path)], check=False)


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_frozen_filesystem_does_not_grow_and_keeps_nobody_waiting(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    pod = volume.use()
    waiting = []
    with frozen(volume.staging):
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                volume.expand(2, pod)
            said = str(refused.value.details())
            assert refused.value.code() is Code.UNAVAILABLE, said
            assert f"is frozen, and takes no writes: fsfreeze --unfreeze {volume.staging}" in said
            waiting.append(re.findall(r"process (\d+)", said))
        volume.unpublish()
        volume.publish()
    assert waiting[0] == waiting[1] != []
    wait_until(lambda: grows(volume, pod), volume.served.log_text)


def grows(volume: Claim, pod: Path) -> bool:
    """False while what was frozen has something that waits for it still."""
    try:
        return volume.expand(2, pod) == 2 * GIB
    except grpc.RpcError as error:
        if error.code() is Code.UNAVAILABLE:
            return False
        assert "CAP_SYS_RESOURCE" in str(error.details())  # without which a mounted ext4 does not grow
        return True


@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_a_frozen_filesystem_that_nobody_has_any_more_is_thawed_and_unstaged(claim: MakeClaim, filesystem: str) -> None:
    volume = claim(filesystem=filesystem)
    pod = volume.use()
    (pod / "file").write_text("data")
    with frozen(volume.staging):
        with fails(Code.FAILED_PRECONDITION, str(pod)):
            volume.unstage()
        # A refusal has left it frozen.
        subprocess.run(["fsfreeze", "--unfreeze", str(pod)], check=True)
        subprocess.run(["fsfreeze", "--freeze", str(pod)], check=True)
        with fails(Code.UNAVAILABLE, "is frozen"):
            volume.expand(2, pod)
        volume.unpublish()
        volume.unstage()
    pod = volume.use()
    assert (pod / "file").read_text() == "data"
    (pod / "file").write_text("more")
