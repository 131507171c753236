"""What the node remembers is damaged, or cannot be written: volumes are taken away, and staged again, all the same."""

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol.sealed_box import public_key_of, seal_to_node
from tests.support.claims import Claim, MakeClaim
from tests.support.csi import fails
from tests.support.devices import loop_devices, mounts_below
from tests.support.serving import Served

Code = grpc.StatusCode


def changed(**values: object) -> Callable[[bytes], bytes]:
    return lambda text: json.dumps({**json.loads(text), **values}).encode()


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "other": lambda text: b"[1]\xff",
    "zeroes": lambda text: bytes(len(text)),
    "path": changed(path=None),
    "device": changed(device="/dev/sda"),
    "targets": changed(targets=None),
    "volume": changed(volume_id="another"),
}


def state_file(claim: Claim) -> Path:
    return claim.served.state / "node/volumes" / f"{hashlib.sha256(claim.id.encode()).hexdigest()}.json"


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state_blocks_nothing(claim: MakeClaim, damage: str, block: bool) -> None:
    volume = claim(block=block)
    volume.use()
    file = state_file(volume)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    before = mounts_below(volume.folder)
    with fails(Code.FAILED_PRECONDITION, "unpublish it first"):
        volume.unstage()
    assert mounts_below(volume.folder) == before
    volume.unpublish()
    assert not (volume.folder / "pod").exists()
    volume.unstage()
    assert mounts_below(volume.folder) == []
    assert loop_devices(volume.file.parent) == []
    assert not file.exists()


def test_staging_again_rebuilds_the_state(claim: MakeClaim) -> None:
    volume = claim()
    pod = volume.use()
    (pod / "file").write_text("data")
    file = state_file(volume)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with fails(Code.FAILED_PRECONDITION, str(file), "stage the volume again"):
        volume.publish()
    volume.stage()
    remembered = json.loads(file.read_text())
    assert remembered["targets"] == {str(pod): False}
    assert {**json.loads(content), "path_count": 0} == {**remembered, "path_count": 0}
    volume.publish()
    with fails(Code.FAILED_PRECONDITION, "one path"):
        volume.publish("second")
    volume.unpublish()
    volume.unstage()


@pytest.fixture
def small_state_disk(server: Served) -> Iterator[Path]:
    """The node's states are on a disk of their own, which is nearly full."""
    folder = server.state / "node/volumes"
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    descriptor = os.open(folder / "filling", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, bytes(4096)):
            pass
    except OSError:
        os.close(descriptor)


@pytest.mark.parametrize("block", [False, True])
def test_volumes_are_taken_away_on_a_full_disk(claim: MakeClaim, small_state_disk: Path, block: bool) -> None:
    volume, other = claim(block=block), claim("other", block=block)
    volume.use()
    other.stage()
    fill(small_state_disk)
    remembered = state_file(other).read_bytes()
    with fails(Code.INTERNAL, "No space left"):
        other.publish()
    assert state_file(other).read_bytes() == remembered
    volume.unpublish()
    volume.unstage()
    other.unpublish()
    other.unstage()
    assert [path.name for path in small_state_disk.iterdir()] == ["filling"]


def test_connection_that_nobody_can_read_and_no_device(claim: MakeClaim) -> None:
    """As an earlier version has saved it."""
    volume = claim()
    volume.publish_controller()
    volume.stage()
    file = state_file(volume)
    state = json.loads(file.read_text())
    volume.unstage()
    lost = {"sealed": "no base64!", "device": None, "path": "", "identity": "", "staged": False}
    file.write_text(json.dumps({**state, **lost}))
    volume.unstage()
    assert not file.exists()


def sealed_for(claim: Claim, data: bytes, *, name: str = "") -> str:
    key = public_key_of((claim.served.state / "node/node.key").read_bytes())
    name = name or f"test-node/{claim.id}"
    return base64.b64encode(seal_to_node(key, data, associated_data=name.encode())).decode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"data": ' + b"[" * 5000,
        b'{"driver_volume_type": "none", "data": [], "volume_id": "x", "size": 1}',
        b'{"driver_volume_type": "none", "data": {}, "volume_id": "x", "size": 1}',
        b'{"driver_volume_type": "iscsi", "data": {}, "volume_id": "x", "size": 1}',
    ],
)
def test_connection_that_means_nothing_leaves_nothing(claim: MakeClaim, data: bytes) -> None:
    """Whoever knows a node's public key can seal to it."""
    volume = claim()
    volume.publish_controller()
    with suppress(grpc.RpcError):  # the controller has the right one, which is used where this one cannot be read
        volume.stage(publish_context={"connection": sealed_for(volume, data)})
    volume.unstage()
    assert not state_file(volume).exists()
    assert loop_devices(volume.file.parent) == []
    volume.stage()
    volume.unstage()


def test_connection_that_was_forged_leaves_nothing(claim: MakeClaim) -> None:
    volume = claim()
    volume.context = {"connection": "no base64!"}
    with fails(Code.INVALID_ARGUMENT, "publish_context.connection"):
        volume.stage()
    assert not state_file(volume).exists()
    sealed = sealed_for(volume, b"{}", name="other")
    other = claim("other")
    other.context = {"connection": sealed}
    with fails(Code.NOT_FOUND, "not published"):
        other.stage()
