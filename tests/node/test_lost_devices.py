"""Volumes whose device has gone: seen, and put in order by staging again. What the kernel has is a test's to say."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_plugin.attachment import host_tables
from csi_plugin.node.context import inflight_key
from csi_plugin.node.reconnection import Reconnection
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError, failed_precondition
from tests.support.csi import GIB, MIB, capability
from tests.support.devices import mounts_below
from tests.support.node_services import CALL, attached, node_service, stage_request, staged
from tests.support.polling import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[list[str]]:
    """Two loop devices with ext4 on them."""
    found = []
    for name in ("old", "new"):
        path = tmp_path / name
        path.write_bytes(bytes(8 * MIB))
        subprocess.run(["mkfs.ext4", "-q", str(path)], check=True)
        done = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
    yield found
    for target in reversed(mounts_below(tmp_path)):
        subprocess.run(["umount", target], check=True)
    for device in found:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    path = tmp_path / "staging"
    path.mkdir()
    return path


def kernel_without(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's table of block devices, in which one is missing."""
    table = tmp_path / "table"
    table.mkdir()
    major, minor = host_tables.device_number(device)
    for entry in Path("/sys/dev/block").iterdir():
        if entry.name != f"{major}:{minor}":
            (table / entry.name).symlink_to(entry.resolve())
    monkeypatch.setattr(host_tables, "_BLOCK_DEVICES", table)


def test_staging_path_of_a_device_that_has_gone(
    devices: list[str], staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = devices
    subprocess.run(["mount", old, str(staging)], check=True)
    kernel_without(old, tmp_path, monkeypatch)
    service, context, _ = node_service(tmp_path, attach=lambda **_: attached(new))
    context.states.save(staged(staging, old, "wwid of the old one"))
    service.NodeStageVolume(stage_request(staging), CALL)
    (mount,) = [mount for mount in host_tables.mounts() if mount.target == str(staging)]
    assert mount.source == new


def fake_crypt(device: str, over: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says that a device is a decrypted one, over another."""
    folder = tmp_path / "crypt"
    (folder / "slaves").mkdir(parents=True)
    (folder / "slaves" / Path(over).name).symlink_to(host_tables.device_folder(over))
    table = tmp_path / "table"
    number = "{}:{}".format(*host_tables.device_number(device))
    (table / number).unlink(missing_ok=True)
    (table / number).symlink_to(folder)


def test_encrypted_volume_whose_device_has_gone(
    devices: list[str], staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dm-crypt's device is there as long as something holds it, and fails each read."""
    lower, decrypted = devices
    identities = {path: host_tables.device_identity(path) for path in devices}
    subprocess.run(["mount", decrypted, str(staging)], check=True)
    service, context, _ = node_service(tmp_path)
    state = staged(
        staging, decrypted, identities[decrypted], encrypted=True, device_info={"type": "block", "path": lower}
    )
    state.attached_identity = identities[lower]
    context.states.save(state)
    kernel_without("/dev/null", tmp_path, monkeypatch)
    fake_crypt(decrypted, lower, tmp_path, monkeypatch)
    monkeypatch.setattr(host_tables, "_loop_identity", lambda path: identities.get(str(path), "").removeprefix("loop "))

    def health() -> list[str]:
        found = service.NodeGetVolumeHealth(csi_pb2.NodeGetVolumeHealthRequest(volume_id="volume-1"), CALL)
        return [status.reason for status in found.volume_health.health_statuses]

    assert health() == []
    state.attached_identity = "another volume's"
    context.states.save(state)
    assert health() == ["DeviceGone"]
    state.device_info = {"type": "block", "path": str(tmp_path / "gone")}
    context.states.save(state)
    assert health() == ["DeviceGone"]


@pytest.mark.parametrize(("bytes_missing", "grows"), [(0, True), (16 * MIB, True), (GIB, False)])
def test_encrypted_volume_that_has_not_grown(
    devices: list[str], staging: Path, tmp_path: Path, bytes_missing: int, grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an older version made holds less than its size, by the header of LUKS."""
    device, _ = devices
    service, context, _ = node_service(tmp_path, extend=lambda **_: 2 * GIB - bytes_missing)
    monkeypatch.setattr("csi_plugin.node.expand_volume.has_own_device", lambda _: True)
    context.states.save(
        staged(staging, device, "", access_type="block", encrypted=True, targets={str(staging / "pod"): False})
    )
    request = csi_pb2.NodeExpandVolumeRequest(
        volume_id="volume-1",
        volume_path=str(staging / "pod"),
        volume_capability=capability("", block=True),
        capacity_range=csi_pb2.CapacityRange(required_bytes=2 * GIB),
        secrets={"passphrase": "key"},
    )
    if grows:
        assert service.NodeExpandVolume(request, CALL).capacity_bytes
        return
    with pytest.raises(RpcError, match="required_bytes") as error:
        service.NodeExpandVolume(request, CALL)
    assert error.value.code is grpc.StatusCode.OUT_OF_RANGE


def test_what_is_tried_in_vain_is_tried_less_often(tmp_path: Path, staging: Path) -> None:
    """And nobody has to wait for it: the volume is marked only while it is tried."""

    def in_vain(**_: object) -> None:
        raise failed_precondition("2 portals can be reached, and show no disk of this volume")

    _, context, tasks = node_service(tmp_path, heal=in_vain)
    context.states.save(staged(staging, str(tmp_path / "gone"), "wwid one", access_type="block"))
    reconnection = Reconnection(context)
    for minute in range(64):
        reconnection.look(60.0 * minute)
    assert len(tasks.calls) == 7  # after 1, 2, 4... minutes
    with context.inflight.hold(inflight_key("volume-1")):
        pass


def test_statistics_of_a_filesystem_that_does_not_answer(
    devices: list[str], staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call waits longer than its limit, and one thread waits for all of them."""
    device, _ = devices
    subprocess.run(["mount", device, str(staging)], check=True)
    service, context, _ = node_service(tmp_path)
    context.states.save(staged(staging, device, host_tables.device_identity(device)))
    monkeypatch.setattr("csi_plugin.node.timed_calls._SECONDS", 0.05)
    asked: list[str] = []
    answers = threading.Event()
    ask = os.statvfs

    def statvfs(path: str) -> os.statvfs_result:
        asked.append(path)
        answers.wait()
        return ask(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    request = csi_pb2.NodeGetVolumeStatsRequest(volume_id="volume-1", volume_path=str(staging))
    for _ in range(3):
        with pytest.raises(RpcError, match="does not answer") as error:
            service.NodeGetVolumeStats(request, CALL)
        assert error.value.code is grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: asked == [str(staging)], lambda: asked)
    answers.set()
    monkeypatch.setattr("csi_plugin.node.timed_calls._SECONDS", 60)
    assert service.NodeGetVolumeStats(request, CALL).usage
