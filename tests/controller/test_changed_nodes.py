"""Nodes that the storage knows by another name than volumes were published to."""

import base64
import json
from typing import Any

import grpc
import pytest

from csi_plugin.persistence.records import ConnectionRecord, NodeRecord
from csi_plugin.protocol import node_registry_pb2
from tests.controller.drivers import InitiatorDriver
from tests.controller.plugin import Plugin, Serve, unsealed
from tests.support.csi import fails
from tests.support.polling import wait_until

Code = grpc.StatusCode


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_node_with_another_initiator_gets_an_export_of_its_own(serve: Serve, *, interrupted: bool) -> None:
    """As after the machine was installed anew: what it was must not keep its access."""
    plugin = serve(driver="tests.controller.drivers.InitiatorDriver")
    plugin.add_node("node-1", initiator="iqn.a", csi_attached_volumes=[])
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")
    if interrupted:
        record = plugin.store.find(ConnectionRecord)[0]
        record.attach_status = "attaching"
        plugin.store.update(record)
    plugin.add_node("node-1", initiator="iqn.A", nqn="nqn.a", ip="192.0.2.2", csi_attached_volumes=[volume_id])
    plugin.publish(volume_id, "node-1")
    assert InitiatorDriver.allowed[volume_id] == {"iqn.a" if not interrupted else "iqn.A"}  # it is the same one

    plugin.add_node("node-1", initiator="iqn.b", csi_attached_volumes=[])
    plugin.publish(volume_id, "node-1")
    assert InitiatorDriver.allowed[volume_id] == {"iqn.b"}
    (connection,) = plugin.store.find(ConnectionRecord)
    assert (connection.attach_status, connection.connector["initiator"]) == ("attached", "iqn.b")
    assert "csi_attached_volumes" not in connection.connector
    plugin.unpublish(volume_id, "node-1")
    assert InitiatorDriver.allowed[volume_id] == set()


def test_a_volume_in_use_keeps_its_export_when_its_node_has_another_initiator(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.InitiatorDriver")
    plugin.add_node("node-1", initiator="iqn.a")
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")

    plugin.add_node("node-1", initiator="iqn.b", csi_attached_volumes=[volume_id])
    with fails(Code.FAILED_PRECONDITION, "node_id", "in use", "initiator (iqn.a, now iqn.b)", "delete its pods"):
        plugin.publish(volume_id, "node-1")
    assert InitiatorDriver.allowed[volume_id] == {"iqn.a"}
    plugin.unpublish(volume_id, "node-1")
    plugin.publish(volume_id, "node-1")
    assert InitiatorDriver.allowed[volume_id] == {"iqn.b"}


def connection(plugin: Plugin, volume_id: str, private_key: bytes) -> dict[str, Any]:
    """What a node hears of a published volume when it asks."""
    request = node_registry_pb2.GetConnectionRequest(node_id="node-1", volume_id=volume_id)
    sealed = plugin.nodes.GetConnection(request).sealed_connection
    context = {"connection": base64.b64encode(sealed).decode()}
    found: dict[str, Any] = json.loads(unsealed(context, private_key, node_id="node-1", volume_id=volume_id))
    return found


@pytest.mark.parametrize("fails_first", [False, True])
def test_a_node_that_asks_for_a_connection_gets_an_export_to_what_it_is_now(serve: Serve, *, fails_first: bool) -> None:
    """The CO publishes nothing anew to a machine that comes back as another one."""
    plugin = serve(driver="tests.controller.drivers.InitiatorDriver")
    private_key = plugin.add_node("node-1", initiator="iqn.a", csi_attached_volumes=[])
    volume_id = plugin.create("pvc-1").volume_id
    published = plugin.publish(volume_id, "node-1")
    told = json.loads(unsealed(published, private_key, node_id="node-1", volume_id=volume_id))
    assert told["exported_to"]["initiator"] == "iqn.a"

    private_key = plugin.add_node("node-1", initiator="iqn.b", csi_attached_volumes=[volume_id])
    assert connection(plugin, volume_id, private_key)["exported_to"]["initiator"] == "iqn.a"  # to be detached with
    private_key = plugin.add_node("node-1", initiator="iqn.b", csi_attached_volumes=[])
    if fails_first:
        InitiatorDriver.refused = "iqn.b"
        with fails(Code.INTERNAL, "what node node-1 is now", "iqn.b is refused"):
            connection(plugin, volume_id, private_key)
        assert InitiatorDriver.allowed[volume_id] == set()
        InitiatorDriver.refused = ""
    assert connection(plugin, volume_id, private_key)["exported_to"]["initiator"] == "iqn.b"
    assert InitiatorDriver.allowed[volume_id] == {"iqn.b"}
    plugin.publish(volume_id, "node-1")  # as before
    with fails(Code.ALREADY_EXISTS):
        plugin.publish(volume_id, "node-1", readonly=True)
    plugin.unpublish(volume_id, "node-1")
    assert InitiatorDriver.allowed[volume_id] == set()
    with fails(Code.NOT_FOUND):
        connection(plugin, volume_id, private_key)


def test_recovery_exports_anew_where_nodes_write_their_own_record(serve: Serve) -> None:
    plugin = serve(driver="tests.controller.drivers.InitiatorDriver")
    plugin.add_node("node-1", initiator="iqn.a", csi_attached_volumes=[])
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-1")
    registry = plugin.service.node_registry
    assert not registry.is_renewing("node-1", volume_id)
    private_key = plugin.add_node("node-1", initiator="iqn.b", csi_attached_volumes=[])
    assert registry.is_renewing("node-1", volume_id)
    plugin.service.recovery.run_once()
    assert not registry.is_renewing("node-1", volume_id)
    assert InitiatorDriver.allowed[volume_id] == {"iqn.b"}
    assert connection(plugin, volume_id, private_key)["exported_to"]["initiator"] == "iqn.b"


def test_a_node_that_was_not_heard_of_for_long_is_forgotten_unless_it_has_a_volume(serve: Serve) -> None:
    plugin = serve(node_expiry_seconds=0.01, recovery_interval_seconds=0.05)
    for node_id in ("node-1", "node-2"):
        plugin.add_node(node_id)
    volume_id = plugin.create("pvc-1").volume_id
    plugin.publish(volume_id, "node-2")

    def known() -> list[str]:
        return [node.id for node in plugin.store.find(NodeRecord)]

    plugin.service.recovery.start()
    try:
        wait_until(lambda: known() == ["node-2"], lambda: str(known()))
        plugin.unpublish(volume_id, "node-2")
        wait_until(lambda: known() == [], lambda: str(known()))
    finally:
        plugin.service.recovery.stop()
