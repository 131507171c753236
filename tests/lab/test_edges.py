"""What Cinder's open drivers leave to an operator, with the real storage."""

from pathlib import Path

import grpc
import pytest

from tests.lab import ceph, host, storage
from tests.lab.backends import LabBackend
from tests.lab.data import MIB, read_block, write_block
from tests.lab.host import run
from tests.lab.servers import LabServer
from tests.lab.volumes import LabClaim, MakeClaim, is_created
from tests.support.csi import fails
from tests.support.polling import wait_until

Code = grpc.StatusCode


def test_target_that_is_gone_is_detached(backend: LabBackend, claim: MakeClaim) -> None:
    volume = claim(block=True)
    then = write_block(volume.use())
    volume.take_away(controller=False)
    _, target = storage.portal_and_target(f"volume-{volume.id}")
    run("cinder-rtstool", "delete", target)
    volume.unpublish_controller()
    assert read_block(volume.use()) == then


def test_backstore_without_target_does_not_keep_its_volume(backend: LabBackend, claim: MakeClaim) -> None:
    volume = claim(block=True)
    volume.use()
    volume.take_away(controller=False)
    _, target = storage.portal_and_target(f"volume-{volume.id}")
    storage.delete_target_alone(target)
    volume.unpublish_controller()
    volume.remove()
    assert not list(Path("/sys/kernel/config/target/core").glob(f"*/{target}"))


def test_new_thick_volume_shows_nothing_of_others(backend: LabBackend, claim: MakeClaim) -> None:
    run("lvcreate", "--yes", "--wipesignatures", "n", "--size", "1G", "--name", "dirt", backend.name)
    dirt = write_block(Path(f"/dev/{backend.name}/dirt"))
    run("lvremove", "--force", f"{backend.name}/dirt")
    device = claim(block=True).use()
    assert read_block(device) != dirt
    with device.open("rb") as file:
        assert not any(any(file.read(MIB)) for _ in range(64))


def test_thin_volume_takes_discards(backend: LabBackend, claim: MakeClaim) -> None:
    device = claim(block=True).use()
    assert int((host.in_sysfs(device) / "queue/discard_max_bytes").read_text()) > 0


def test_share_that_is_not_mounted_is_mounted_for_a_deletion(backend: LabBackend, claim: MakeClaim) -> None:
    volume = claim(block=True)
    mounted = run("findmnt", "--noheadings", "--types", "nfs4", "--output", "TARGET").split()
    for target in mounted:
        run("umount", target)
    volume.remove()
    assert f"volume-{volume.id}" not in storage.nfs_files()


def test_nothing_new_in_a_thin_pool_whose_metadata_is_nearly_full(backend: LabBackend, claim: MakeClaim) -> None:
    """Full metadata corrupts the pool, however much room its data has."""
    claim("before", block=True)
    with storage.full_metadata(backend.name, percent=91), fails(Code.RESOURCE_EXHAUSTED, "metadata"):
        claim("too-much", block=True)
    wait_until(lambda: is_created(claim), lambda: storage.metadata_percent(backend.name), timeout=120)


def test_volume_whose_key_was_rotated(backend: LabBackend, claim: MakeClaim) -> None:
    volume = claim(block=True)
    then = write_block(volume.use())
    volume.take_away(controller=False)
    ceph.rotate_key()
    volume.publish_controller()
    assert read_block(volume.use()) == then
    claim("another", block=True)


@pytest.mark.timeout(1800)
def test_clone_that_was_killed_leaves_nothing(server: LabServer, backend: LabBackend, claim: MakeClaim) -> None:
    """The driver takes a snapshot of its own inside of a clone. What is left of it is in nobody's way."""
    if backend.name == "small":
        storage.grow("small")
    source = claim("source", block=True)
    then = write_block(source.use())
    source.take_away()
    server.controller_process.kill()
    server.start_controller(CINDERBOX_FAILPOINT="create.recorded")
    with fails(Code.UNAVAILABLE):
        claim("copy", block=True, source=source)
    server.controller_process.wait_for_exit()
    volumes = [name for table, name in server.controller_process.records() if table == "volumes"]
    (attempt,) = [name for name in volumes if name != source.id]
    snapshot_of_clone(backend, source.id, attempt)
    copies: list[LabClaim] = []

    def copy(name: str, **arguments: object) -> LabClaim:
        copies.append(claim(name, **arguments))
        return copies[-1]

    server.start_controller(CINDERBOX_RECOVERY_INTERVAL_SECONDS="5")
    wait_until(lambda: is_created(copy, "copy", source=source), backend.objects, timeout=900)
    assert read_block(copies[0].use()) == then
    names = sorted(f"volume-{volume.id}" for volume in (source, *copies))
    wait_until(lambda: backend.objects() == names, backend.objects, timeout=900)
    if backend.name == "rbd":
        assert ceph.snapshots(f"volume-{source.id}") == [f"volume-{copies[0].id}.clone_snap"]


def snapshot_of_clone(backend: LabBackend, source: str, attempt: str) -> None:
    """What the driver makes first."""
    if backend.name == "rbd":
        ceph.protected_snapshot(f"volume-{source}", f"volume-{attempt}.clone_snap")
    else:
        name = f"clone-snap-{attempt}"
        run("lvcreate", "--snapshot", "--size", "1G", "--name", name, f"{backend.name}/volume-{source}")
