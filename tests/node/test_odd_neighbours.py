"""Others' mounts and files may have any names: volumes are staged, looked at and deleted all the same."""

import os
import subprocess
from pathlib import Path

import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.claims import Claim
from tests.support.mount_namespaces import private_mounts
from tests.support.serving import Served

pytestmark = pytest.mark.root
ODD_NAMES = (b"\xff\xfe", "\u2028".encode(), "\x85".encode(), b"a\x0cb", b"a\rb", b"a\nb", b"a b\\040")
MOUNT_ALL = """
set -e
folder=$1; shift
# A copy of another test's mount would keep its device in use.
grep -o " /tmp/[^ ]*" /proc/self/mounts | xargs --no-run-if-empty umount --lazy --quiet || true
for name in "$folder"/*; do mount -t tmpfs "$name" "$name"; done
exec "$@"
"""


@pytest.fixture
def odd_folders(tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD_NAMES:
        Path(folder, os.fsdecode(name)).mkdir()
    return folder


def use_and_delete(served: Served, folder: Path) -> None:
    claim = Claim(served, folder, name="claim")
    claim.stage()
    pod = claim.publish()
    assert claim.stats(pod)[csi_pb2.VolumeUsage.BYTES].total
    assert claim.health() == []
    claim.unpublish()
    claim.remove()
    assert served.files() == []


def test_mounts_with_odd_names(tmp_path: Path, odd_folders: Path) -> None:
    """In a mount namespace of the server's own, so that nobody else sees them."""
    private = (*private_mounts(), "sh", "-c", MOUNT_ALL, "sh", str(odd_folders))
    served = Served(tmp_path, prefix=private, persistence={"storage": "memory"})
    try:
        use_and_delete(served.start(), tmp_path / "claim")
    finally:
        served.close()


def test_files_with_odd_names_behind_loop_devices(server: Served, tmp_path: Path) -> None:
    devices = []
    try:
        for name in ODD_NAMES:
            file = os.fsencode(tmp_path) + b"/" + name
            Path(os.fsdecode(file)).write_bytes(bytes(4096))
            done = subprocess.run(["losetup", "--find", "--show", file], check=True, capture_output=True, text=True)
            devices.append(done.stdout.strip())
        use_and_delete(server, tmp_path / "claim")
    finally:
        for device in devices:
            subprocess.run(["losetup", "--detach", device], check=True)
