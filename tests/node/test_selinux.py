"""SELinux labels, which kubelet passes as mount flags; this machine's kernel has no SELinux."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.claims import Claim
from tests.support.csi import capability, fails
from tests.support.mount_namespaces import private_mounts
from tests.support.serving import Served, serving

pytestmark = pytest.mark.root

Code = grpc.StatusCode
OF_POD = 'context="system_u:object_r:container_file_t:s0:c15,c25"'
"""As kubelet writes it: with quotes, since a label has commas."""
OF_ANOTHER = 'context="system_u:object_r:container_file_t:s0:c7,c9"'


class Host:
    """A node whose mount(8) is watched, and whose kernel has SELinux when a test says so.

    It has a mount namespace of its own, for its own /proc/filesystems.
    """

    def __init__(self, folder: Path) -> None:
        self._calls = folder / "calls"
        self._filesystems = folder / "filesystems"
        self._without_selinux = Path("/proc/filesystems").read_text()
        self.use_selinux(False)
        programs = folder / "programs"
        programs.mkdir()
        mount = programs / "mount"
        mount.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{self._calls}\nexec {shutil.which("mount")} "$@"\n')
        mount.chmod(0o755)
        self.environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        script = f'{shutil.which("mount")} --bind {self._filesystems} /proc/filesystems && exec "$@"'
        self.prefix = (*private_mounts(), "sh", "-c", script, "sh")

    def use_selinux(self, is_on: bool) -> None:
        # In place: what is mounted over the kernel's file is this inode.
        with self._filesystems.open("w") as file:
            file.write(self._without_selinux + ("nodev\tselinuxfs\n" if is_on else ""))

    def mount_options(self) -> str:
        """The options with which mount was called last for a device."""
        calls = [line.split(" ") for line in self._calls.read_text().splitlines() if line.startswith("-t ")]
        return calls[-1][calls[-1].index("-o") + 1]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def served(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    arguments = {"environment": host.environment, "prefix": host.prefix}
    with serving(tmp_path_factory.mktemp("node"), persistence={"storage": "memory"}, **arguments) as running:
        yield running


@pytest.fixture
def volume(served: Served, host: Host, tmp_path: Path) -> Iterator[Claim]:
    claim = Claim(served, tmp_path / "claim", name=tmp_path.name)
    yield claim
    host.use_selinux(False)
    claim.unpublish()  # its mounts are in the node's namespace, where the claim does not see them
    claim.remove()


def test_a_label_reaches_mount_as_one_option(volume: Claim, host: Host) -> None:
    volume.capability = capability("xfs", flags=("noatime", OF_POD))
    volume.use()
    assert host.mount_options() == f"nodev,nosuid,noatime,{OF_POD},nouuid"
    volume.use()


def test_a_staged_volume_has_one_label(volume: Claim) -> None:
    labelled, other, plain = (capability("ext4", flags=flags) for flags in ((OF_POD,), (OF_ANOTHER,), ()))
    volume.capability = labelled
    volume.stage()
    for refused in (volume.stage, volume.publish):
        with fails(Code.FAILED_PRECONDITION, "mount_flags", "c15,c25", "c7,c9", "unstage"):
            refused(volume_capability=other)
    volume.publish()
    volume.unpublish()
    volume.unstage()

    volume.stage(volume_capability=plain)
    with fails(Code.FAILED_PRECONDITION, "mount_flags", "context=nothing", "c15,c25"):
        volume.publish()


def test_a_label_that_mount_leaves_out_is_noticed(volume: Claim, host: Host) -> None:
    """libmount does that without a word where it takes SELinux for off, as here: nobody could read the volume."""
    host.use_selinux(True)
    volume.capability = capability("ext4", flags=(OF_POD,))
    with fails(Code.INTERNAL, "left out context", "/etc/selinux/config", "/sys/fs/selinux"):
        volume.stage()
    volume.stage(volume_capability=capability("ext4"))  # it is not mounted, and goes without
