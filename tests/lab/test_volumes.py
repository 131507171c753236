"""A volume's life over real protocols, through CSI: the data is what was written, and nothing is left behind.

Attaching takes seconds here, so a test shows several features with one volume, each as soon as it is seen to work.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from csi_plugin.attachment import signatures
from csi_plugin.attachment.host_tables import device_size
from tests.lab.backends import LabBackend
from tests.lab.data import (
    GIB,
    MIB,
    device_holds,
    filesystem_size,
    read_block,
    read_file,
    size_of,
    write_block,
    write_file,
)
from tests.lab.host import run
from tests.lab.volumes import MakeClaim
from tests.support.csi import Mode, fails

Code = grpc.StatusCode
Shows = Callable[[str], None]
PASSPHRASE = {"passphrase": "correct horse battery staple"}


def test_raw_block(backend: LabBackend, claim: MakeClaim, shows: Shows) -> None:
    volume = claim("source", block=True)
    device = volume.use()
    assert size_of(device) == GIB
    if backend.check:
        backend.check(device)
    written = write_block(device, GIB - 8 * MIB)

    if backend.can("expand online"):
        with writer(device):
            assert volume.expand(2, device) == size_of(device) == 2 * GIB
        assert read_block(device, 2 * GIB - 8 * MIB) != write_block(device, 2 * GIB - 8 * MIB)
        shows("expand online")
    else:
        with fails(Code.FAILED_PRECONDITION):
            volume.expand(2, device)
        volume.take_away()
        volume.expand_controller(2)
    volume.take_away(controller=False)

    device = volume.use()
    assert size_of(device) == 2 * GIB
    assert read_block(device, GIB - 8 * MIB) == written
    shows("block")

    if not backend.can("copies in use"):
        volume.take_away()
    clone = claim("clone", block=True, gib=3, source=volume)
    clone.publish_controller(readonly=True)
    copy = clone.use()
    assert size_of(copy) == 3 * GIB
    with pytest.raises(OSError, match="not permitted"):
        write_block(copy)
    if not backend.can("copies in use"):
        device = volume.use()
    write_block(device, GIB - 8 * MIB)
    assert read_block(copy, GIB - 8 * MIB) == written
    shows("clone")
    shows("read-only")


def test_filesystem(backend: LabBackend, claim: MakeClaim, shows: Shows) -> None:
    source = claim("source", filesystem="ext4", mode=Mode.SINGLE_NODE_MULTI_WRITER)
    pod = source.use()
    then = write_file(pod)
    reader = source.publish("reader", readonly=True)
    assert read_file(reader) == then
    with pytest.raises(OSError, match="Read-only"):
        write_file(reader)

    if backend.can("copies in use"):
        snapshot = source.snapshot("then")
        write_file(pod)
        shows("copies in use")
    else:
        source.take_away()
        snapshot = source.snapshot("then")
        with fails(Code.FAILED_PRECONDITION, "has snapshots"):
            source.publish_controller()
    restored = claim("restored", filesystem="ext4", gib=2, snapshot=snapshot)
    pod = restored.use()
    assert read_file(pod) == then
    assert filesystem_size(pod) > 1.5
    shows("snapshot")

    if backend.can("expand online"):
        with writer(pod / "running"):
            restored.expand(3, pod)
        assert filesystem_size(pod) > 2.5
        assert read_file(pod) == then
    if not backend.can("copies in use"):
        clone = claim("clone", filesystem="ext4", gib=2, source=source)
        assert read_file(clone.use()) == then
        source.delete_snapshot(snapshot)
        assert read_file(source.use()) == then
    shows("ext4")


def test_encryption(backend: LabBackend, claim: MakeClaim, shows: Shows) -> None:
    volume = claim("secret", filesystem="xfs", encryption="luks2")
    pod = volume.use(secrets=PASSPHRASE)
    marker = b"plain to see" * 1000
    (pod / "text").write_bytes(marker)
    written = write_file(pod)
    mapped = f"/dev/mapper/crypt-{volume.id}"
    (encrypted,) = [
        line.split()[1]
        for line in run("cryptsetup", "status", mapped).splitlines()
        if line.strip().startswith("device:")
    ]
    assert signatures.probe(encrypted).kind == "crypto_LUKS"
    assert device_holds(mapped, marker[:100])
    assert not device_holds(encrypted, marker[:100])

    assert device_size(mapped) == GIB
    if backend.can("expand online"):
        assert volume.expand(2, pod, secrets=PASSPHRASE) == device_size(mapped) == 2 * GIB
        assert filesystem_size(pod) > 1.5
    volume.take_away(controller=False)
    with fails(Code.FAILED_PRECONDITION, "passphrase"):
        volume.stage(secrets={"passphrase": "wrong"})

    pod = volume.use(secrets=PASSPHRASE)
    assert read_file(pod) == written
    shows("xfs")
    shows("encryption")


def test_qos(backend: LabBackend, claim: MakeClaim, shows: Shows) -> None:
    assert backend.limits is not None
    volume = claim(block=True, **{"qos.total_iops_sec": "500"})
    assert backend.limits(f"volume-{volume.id}") == {"rbd_qos_iops_limit": "500"}
    volume.modify({"qos.total_iops_sec": "700", "qos.read_bytes_sec": "1048576"})
    assert backend.limits(f"volume-{volume.id}") == {"rbd_qos_iops_limit": "700", "rbd_qos_read_bps_limit": "1048576"}
    shows("QoS")


@contextlib.contextmanager
def writer(path: Path) -> Iterator[None]:
    """Something that writes all the time, and must not notice what happens meanwhile."""
    done = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with path.open("wb" if not path.exists() else "r+b", buffering=0) as file:
                while not done.wait(0.1):
                    file.seek(0)
                    file.write(b"w" * 4096)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert errors == []
