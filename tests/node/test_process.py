"""The node as a process of its own: what it loads, what it remembers over restarts, and whom it believes."""

import base64
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.sealed_box import public_key_of, seal_to_node
from tests.support.claims import Claim
from tests.support.csi import capability, fails, unless_busy, unless_refused
from tests.support.devices import loop_devices, mounts_below
from tests.support.polling import wait_until
from tests.support.serving import Served

Code = grpc.StatusCode
NEVER_ON_A_NODE = ("cinder", "os_brick", "sqlalchemy", "cryptography", "kubernetes")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Served, Served]]:
    """A controller and a node that know each other over the registry's socket."""
    registry = {"CINDERBOX_REGISTRY_ENDPOINT": f"unix://{tmp_path}/registry.sock"}
    controller = Served(tmp_path, mode="controller", environment=registry, name="controller")
    node = Served(tmp_path, mode="node", environment=registry, name="node")
    try:
        yield controller.start(), node.start(PYTHONPROFILEIMPORTTIME="1")
    finally:
        node.close()
        controller.close()


def claimed(pair: tuple[Served, Served], name: str = "claim", *, block: bool = False) -> Claim:
    controller, node = pair
    claim = Claim(controller, controller.folder / name, name=name, block=block)
    wait_until(lambda: "the node is registered" in node.log.read_text(), node.log_text)
    claim.publish_controller()
    claim.served = node
    return claim


def test_node_in_a_process_of_its_own(pair: tuple[Served, Served]) -> None:
    _, node = pair
    claim = claimed(pair)
    (claim.use() / "file").write_text("data")
    assert node.process is not None
    resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{node.process.pid}/status").read_text())
    assert resident is not None
    print(f"resident set of the node: {int(resident[1]) / 1024:.1f} MiB")
    loaded = re.findall(r"^import time:.*\| +(\S+)$", node.log.read_text(), re.MULTILINE)
    assert "csi_plugin.node.stage" in loaded
    assert [name for name in loaded if name.startswith(NEVER_ON_A_NODE)] == []
    claim.unpublish()
    claim.unstage()


def test_restarted_node_goes_on(pair: tuple[Served, Served]) -> None:
    _, node = pair
    claim = claimed(pair)
    claim.use("first")
    (claim.folder / "first/file").write_text("data")
    node.kill()
    node.start()

    claim.stage()
    assert (claim.publish("first") / "file").read_text() == "data"
    claim.unpublish("first")
    assert (claim.publish("second") / "file").read_text() == "data"
    claim.unpublish("second")
    claim.unstage()
    assert mounts_below(claim.folder) == []


def test_node_that_lost_its_key_asks_for_the_connection_again(pair: tuple[Served, Served]) -> None:
    _, node = pair
    claim = claimed(pair)
    claim.stage()
    node.stop()
    (node.state / "node/node.key").unlink()
    node.start()
    claim.unstage()
    claim.stage()
    claim.unstage()


def test_node_with_another_address_asks_for_an_export_of_its_own(pair: tuple[Served, Served]) -> None:
    """As after a reboot with another card, when the CO publishes nothing anew."""
    controller, node = pair
    claim = claimed(pair)
    claim.stage()
    node.stop()
    node.start(CINDERBOX_STORAGE_NETWORK_IP="192.0.2.7")
    claim.stage()  # it has the volume, and keeps it as it is
    assert "is exported again" not in controller.log.read_text()
    claim.unstage()
    claim.stage()
    assert f"volume {claim.id} is exported again to node test-node" in controller.log.read_text()
    claim.unstage()
    assert '"ip": "192.0.2.7"' in controller.command("volumes", "show", claim.id)


def test_controller_knows_what_a_node_has_staged_of_a_share(pair: tuple[Served, Served]) -> None:
    """Nothing but this node keeps it from writing; the volume must not get to another one meanwhile."""
    controller, node = pair
    claim = claimed(pair)
    claim.context["unfenced"] = "true"
    request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=claim.id, node_id="test-node")

    def unpublish() -> None:
        controller.controller.ControllerUnpublishVolume(request)

    claim.use()
    with fails(Code.FAILED_PRECONDITION, "test-node is alive"):
        unpublish()
    node.kill()
    node.start()
    claim.unpublish()
    with fails(Code.FAILED_PRECONDITION, "test-node is alive"):
        unpublish()
    controller.command("volumes", "release", claim.id, "other-node", "--yes", expect=1)
    claim.unstage()
    away = claim.file.rename(claim.file.with_suffix(".away"))
    with pytest.raises(grpc.RpcError):
        claim.stage()
    away.rename(claim.file)
    # What could not be staged is in nobody's way.
    wait_until(lambda: unless_refused(unpublish), node.log_text)


def test_volume_of_a_share_is_taken_at_a_person_s_word_and_not_staged_unknown_to_the_controller(
    pair: tuple[Served, Served],
) -> None:
    controller, _ = pair
    claim = claimed(pair)
    claim.context["unfenced"] = "true"
    claim.stage()
    controller.command("volumes", "release", claim.id, "test-node", "--yes")
    controller.controller.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id=claim.id, node_id="test-node")
    )
    controller.kill()
    claim.unstage()
    with fails(Code.UNAVAILABLE, "could not be told"):
        claim.stage()
    assert loop_devices(claim.folder) == []


def test_controller_that_is_away_does_not_keep_a_node_from_unstaging(pair: tuple[Served, Served]) -> None:
    controller, _ = pair
    claim = claimed(pair)
    claim.use()
    controller.kill()
    claim.unpublish()
    claim.unstage()
    assert mounts_below(claim.folder) == []


def test_connection_of_another_volume_is_of_no_use(pair: tuple[Served, Served]) -> None:
    controller, node = pair
    published = claimed(pair, "published")
    other = Claim(controller, controller.folder / "other", name="other")
    other.served, other.context = node, published.context
    with fails(Code.NOT_FOUND, "not published"):
        other.stage()
    forged = {"connection": "bm90IHNlYWxlZA==", "sealed": "x25519"}
    with fails(Code.NOT_FOUND, "not published"):
        other.stage(publish_context=forged)


def test_rebooted_node_stages_anew(pair: tuple[Served, Served]) -> None:
    """After a reboot there are state files, and neither mounts nor devices."""
    _, node = pair
    claim = claimed(pair)
    (claim.use() / "file").write_text("data")
    subprocess.run(["sync"], check=True)
    node.kill()
    for mount in reversed(mounts_below(claim.folder)):
        subprocess.run(["umount", mount], check=True)
    subprocess.run(["losetup", "--detach", claim.device], check=True)
    node.start()

    assert (claim.use() / "file").read_text() == "data"
    claim.unpublish()
    claim.unstage()


def test_device_name_that_another_volume_has_got(pair: tuple[Served, Served]) -> None:
    """After a reboot the kernel gives names out anew; raw block has no filesystem that would tell."""
    controller, node = pair
    # The kernel gives the lowest name that is free, to whoever asks: this one keeps the other from tests beside this.
    spare = controller.folder / "spare"
    spare.write_bytes(bytes(4096))
    lower = subprocess.run(["losetup", "--find", "--show", spare], check=True, capture_output=True, text=True).stdout
    first = claimed(pair, "first", block=True)
    path = first.use()
    with path.open("r+b", buffering=0) as device:
        device.write(b"first".ljust(4096))
    other = claimed(pair, "other", block=True)
    node.kill()
    taken = first.device
    subprocess.run(["umount", str(path)], check=True)
    subprocess.run(["losetup", "--detach", lower.strip()], check=True)
    subprocess.run(["losetup", "--detach", taken], check=True)
    subprocess.run(["losetup", taken, str(other.file)], check=True)
    node.start()

    with fails(Code.FAILED_PRECONDITION, "lost its device"):
        first.publish()
    assert first.health() == ["DeviceGone"]
    first.stage()
    assert first.publish().open("rb", buffering=0).read(5) == b"first"
    other.stage()
    assert other.publish().open("rb", buffering=0).read(5) == bytes(5)
    for claim in (first, other):
        claim.unpublish()
        claim.unstage()
    assert loop_devices(controller.folder) == []


@pytest.mark.parametrize("block", [False, True])
def test_node_that_lost_its_state_still_unpublishes(pair: tuple[Served, Served], block: bool) -> None:
    _, node = pair
    claim = claimed(pair, block=block)
    claim.use()
    for path in (node.state / "node/volumes").iterdir():
        path.unlink()
    claim.unpublish()
    claim.unstage()
    assert mounts_below(claim.folder) == []


def test_raw_device_that_was_lost_is_connected_again(pair: tuple[Served, Served]) -> None:
    _, node = pair
    claim = claimed(pair, block=True)
    path = claim.use()
    with path.open("r+b", buffering=0) as device:
        device.write(b"first".ljust(4096))
    node.kill()
    node.start(CINDERBOX_RECONNECT_INTERVAL_SECONDS="0.2")
    subprocess.run(["losetup", "--detach", claim.device], check=True)

    wait_until(lambda: loop_devices(claim.served.folder) != [], node.log_text)

    with Path(claim.device).open("rb", buffering=0) as device:
        assert device.read(5) == b"first"
    wait_until(lambda: claim.health() == [], claim.health)
    wait_until(lambda: unless_busy(claim.unpublish), node.log_text)
    claim.unstage()


def test_staging_that_never_had_a_connection_can_be_undone(pair: tuple[Served, Served]) -> None:
    controller, node = pair
    claim = Claim(controller, controller.folder / "claim", name="claim")
    claim.served, claim.context = node, {"connection": "bm90IHNlYWxlZA==", "sealed": "x25519"}
    wait_until(lambda: "the node is registered" in node.log.read_text(), node.log_text)
    with fails(Code.NOT_FOUND, "not published"):
        claim.stage()
    claim.unstage()
    assert list((node.state / "node/volumes").iterdir()) == []


def test_node_claims_what_the_plugin_as_a_whole_does(pair: tuple[Served, Served]) -> None:
    """CSI, "GetPluginCapabilities": a client that sees no controller service does not publish volumes."""
    _, node = pair
    wait_until(lambda: "the node is registered" in node.log.read_text(), node.log_text)
    segments = dict(node.node.NodeGetInfo(csi_pb2.NodeGetInfoRequest()).accessible_topology.segments)
    assert segments == {"csi.cinderbox.io/reach": "all"}
    constrained = csi_pb2.PluginCapability()
    constrained.service.type = csi_pb2.PluginCapability.Service.VOLUME_ACCESSIBILITY_CONSTRAINTS
    request = csi_pb2.GetPluginCapabilitiesRequest()
    of_controller, of_node = [list(served.identity.GetPluginCapabilities(request).capabilities) for served in pair]
    assert constrained in of_controller
    assert of_node == of_controller
    assert of_node[0].service.type == csi_pb2.PluginCapability.Service.CONTROLLER_SERVICE


def test_warnings_of_os_brick_reach_the_log_without_secrets(pair: tuple[Served, Served]) -> None:
    _, node = pair
    claim = claimed(pair)
    # It accepts connections, and is no iSCSI target.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        portal = f"127.0.0.1:{listener.getsockname()[1]}"
        _stage_at(portal, claim, node)
    written = node.log.read_text()
    assert "os_brick.initiator.connectors.iscsi" in written
    assert f"Failed to connect to iSCSI portal {portal}" in written
    assert "hunter2" not in written
    claim.unstage()


def _stage_at(portal: str, claim: Claim, node: Served) -> None:
    """In vain, with a password."""
    nobody = {
        "target_portal": portal,
        "target_iqn": "iqn.2010-10.org.example:volume",
        "target_lun": 1,
        "auth_method": "CHAP",
        "auth_username": "hunter",
        "auth_password": "hunter2-chap",
    }
    plan = {"driver_volume_type": "iscsi", "data": nobody, "volume_id": claim.id, "size": 1}
    key = public_key_of((node.state / "node/node.key").read_bytes())
    sealed = seal_to_node(key, json.dumps(plan).encode(), associated_data=f"test-node/{claim.id}".encode())
    with fails(Code.INTERNAL, "attach failed"):
        claim.stage(publish_context={**claim.context, "connection": base64.b64encode(sealed).decode()})


def test_secrets_stay_out_of_logs_and_state(pair: tuple[Served, Served]) -> None:
    _, node = pair
    claim = claimed(pair)
    claim.stage(secrets={"passphrase": "hunter2-passphrase", "other": "hunter2-other"})
    claim.publish(secrets={"token": "hunter2-token"})
    with fails(Code.ALREADY_EXISTS):
        claim.stage(volume_capability=capability("xfs"), secrets={"passphrase": "hunter2-again"})
    written = node.log.read_text()
    states = "".join(path.read_text() for path in (node.state / "node/volumes").iterdir())
    assert "NodeStageVolume" in written
    assert "hunter2" not in written + states
    assert claim.context["connection"] not in written
    for path in (node.state / "node").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
    claim.unpublish()
    claim.unstage()
    assert list((node.state / "node/volumes").iterdir()) == []
