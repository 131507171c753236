"""Volumes whose device has gone: seen, and put in order by staging again. What the kernel has is a test's to say."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from csi_plugin.attachment import device_use, host_tables
from csi_plugin.node.attachment_process import Interruption
from csi_plugin.node.context import inflight_key
from csi_plugin.node.reconnection import Reconnection
from csi_plugin.node.staged_volumes import attached_volumes, held_volumes
from csi_plugin.node.trimming import Trimming
from csi_plugin.node.unwanted_volumes import PATIENCE_SECONDS, UnwantedVolumes
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import RpcError, aborted, failed_precondition
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


@pytest.mark.parametrize("call", ["stage", "unstage"])
def test_nobody_waits_for_healing(devices: list[str], staging: Path, tmp_path: Path, call: str) -> None:
    """A try that takes long, and may be in vain, gives way to the CO."""
    device, _ = devices
    tried = threading.Event()

    def long(*, interruption: Interruption, **_: object) -> None:
        tried.set()
        wait_until(lambda: interruption.is_called_off, lambda: "healing goes on")
        raise aborted("heal gives way")

    service, context, tasks = node_service(
        tmp_path, heal=long, attach=lambda **_: attached(device), detach=lambda **_: None
    )
    context.states.save(staged(staging, str(tmp_path / "gone"), "wwid one", access_type="block"))
    healing = threading.Thread(target=Reconnection(context).look, args=(0.0,))
    healing.start()
    assert tried.wait(60)
    if call == "stage":
        service.NodeStageVolume(stage_request(staging), CALL)
    else:
        service.NodeUnstageVolume(
            csi_pb2.NodeUnstageVolumeRequest(volume_id="volume-1", staging_target_path=str(staging)), CALL
        )
    healing.join()
    assert tasks.names() == ["heal", *(["check", "attach"] if call == "stage" else ["detach"])]
    state = context.states.load("volume-1")
    assert (state.device_path if state else None) == (device if call == "stage" else None)


def test_device_that_does_not_answer(
    devices: list[str], staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop device asks the server of the share that its file is on. No call hangs with it; one thread does."""
    device, _ = devices
    subprocess.run(["mount", device, str(staging)], check=True)
    service, context, tasks = node_service(tmp_path)
    context.states.save(staged(staging, device, host_tables.device_identity(device), unfenced=True))
    raw = staged(
        staging / "raw", device, host_tables.device_identity(device), volume_id="volume-2", access_type="block"
    )
    context.states.save(raw)
    monkeypatch.setattr("csi_plugin.node.timed_calls._SECONDS", 0.05)
    monkeypatch.setattr("csi_plugin.node.staged_volumes._ALL_SECONDS", 0.05)
    asked: list[str] = []
    answers = threading.Event()

    def asks(path: str) -> str:
        asked.append(path)
        answers.wait()
        return ""

    monkeypatch.setattr("csi_plugin.node.staged_volumes.device_identity", asks)
    try:
        found = service.NodeGetVolumeHealth(csi_pb2.NodeGetVolumeHealthRequest(volume_id="volume-1"), CALL)
        assert [status.reason for status in found.volume_health.health_statuses] == ["DeviceNotAnswering"]
        (backend,) = service.NodeGetStorageHealth(csi_pb2.NodeGetStorageHealthRequest(), CALL).backend_health
        assert backend.message.startswith("2 of 2 staged volumes")
        stage = stage_request(staging)
        publish = csi_pb2.NodePublishVolumeRequest(
            volume_id="volume-1",
            staging_target_path=str(staging),
            target_path=str(tmp_path / "pod"),
            volume_capability=stage.volume_capability,
        )
        unstage = csi_pb2.NodeUnstageVolumeRequest(volume_id="volume-1", staging_target_path=str(staging))
        for call in (
            lambda: service.NodePublishVolume(publish, CALL),
            lambda: service.NodeStageVolume(stage, CALL),
            lambda: service.NodeUnstageVolume(unstage, CALL),
        ):
            with pytest.raises(RpcError, match="does not answer") as error:
                call()
            assert error.value.code is grpc.StatusCode.UNAVAILABLE
        assert held_volumes(context) == ["volume-1"], "it may be written to again at any time"
        assert sorted(attached_volumes(context)) == ["volume-1", "volume-2"]
        Reconnection(context).look(0.0)
        assert tasks.calls == []
        assert str(staging) in mounts_below(tmp_path)
        assert len(asked) == 2
    finally:
        answers.set()


def test_nothing_is_asked_of_servers_that_may_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """To see whether a device is in use, nodes that are mounted are looked at: not those below a share."""
    lines = [
        "30 1 0:25 / /share rw - nfs4 server:/volumes rw",
        "31 30 0:26 /token /share/pod/token rw - tmpfs tmpfs rw",
        "32 1 0:27 /token /share-of-another/token rw - tmpfs tmpfs rw",
        "33 30 7:1 / /share/disk rw - ext4 /dev/loop1 rw",
    ]
    monkeypatch.setattr(host_tables, "mounts", lambda: [host_tables.parse_mount(line) for line in lines])
    asked: list[str] = []
    monkeypatch.setattr(device_use, "_block_number", lambda path: asked.append(path))
    assert [mount.target for mount in device_use.mounts_of({(7, 1)})] == ["/share/disk"]
    assert asked == ["/share-of-another/token"]


def test_room_of_deleted_files_is_given_back(tmp_path: Path, staging: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(32 * MIB))
    subprocess.run(["mkfs.ext4", "-q", "-E", "nodiscard", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(staging)], check=True)
    try:
        _, context, _ = node_service(tmp_path)
        state = staged(staging, "/dev/loop", "", access_type="mount")
        context.states.save(state)
        before = disk.stat().st_blocks
        with context.inflight.hold(inflight_key("volume-1")):
            Trimming(context).trim_all()  # it is being unstaged, say
        assert disk.stat().st_blocks == before
        Trimming(context).trim_all()
        assert disk.stat().st_blocks < before / 2
    finally:
        subprocess.run(["umount", str(staging)], check=True)


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


def test_what_nobody_wants_any_more_is_released(devices: list[str], staging: Path, tmp_path: Path) -> None:
    """After a staging that failed for good nobody unstages, and the volume could never be deleted."""
    _, context, tasks = node_service(tmp_path / "node", detach=lambda **_: None)
    device, target, published = devices[0], tmp_path / "target", {"volume-1"}
    asked: list[list[str]] = []

    def unpublished(volume_ids: list[str]) -> list[str]:
        asked.append(volume_ids)
        return [volume_id for volume_id in volume_ids if volume_id not in published]

    context.registration = cast(Any, SimpleNamespace(unpublished=unpublished))
    subprocess.run(["mount", device, str(staging)], check=True)
    context.states.save(staged(staging, device, host_tables.device_identity(device)))
    unwanted_volumes = UnwantedVolumes(context)

    def is_kept(*seconds: float) -> bool:
        for now in seconds:
            unwanted_volumes.look(now)
        return context.states.load("volume-1") is not None and str(staging) in mounts_below(tmp_path)

    assert is_kept(0, 1_000)  # it is published to this node
    published.clear()
    target.mkdir()
    subprocess.run(["mount", "--bind", str(staging), str(target)], check=True)
    asked.clear()
    assert is_kept(2_000, 3_000)  # a pod has it
    assert asked == []
    subprocess.run(["umount", str(target)], check=True)
    assert is_kept(4_000, 4_000 + PATIENCE_SECONDS - 1)
    assert not is_kept(4_000 + PATIENCE_SECONDS)
    assert mounts_below(tmp_path) == []
    assert tasks.names() == ["detach"]
