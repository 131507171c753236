"""ControllerPublishVolume and ControllerUnpublishVolume: a volume's connections to nodes."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csi_plugin.controller import (
    changed_connectors,
    filesystem_records,
    initiator_conflicts,
    lookups,
    lost_nodes,
    node_connectors,
    storage_objects,
)
from csi_plugin.controller.attempts import resource_of
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.requests import access
from csi_plugin.controller.requests.fingerprint import normalize_capability
from csi_plugin.controller.requests.parameters import own_context
from csi_plugin.controller.sealed_connections import seal_connection
from csi_plugin.persistence.records import (
    PUBLIC_KEY,
    ConnectionRecord,
    NodeRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import aborted, already_exists, failed_precondition, invalid_argument
from csi_plugin.protocol.node_identity import UNFENCED


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """A valid ControllerPublishVolumeRequest."""

    volume_id: str
    node_id: str
    capability: csi_pb2.VolumeCapability
    readonly: bool
    volume_context: Mapping[str, str]

    @property
    def attach_mode(self) -> str:
        return access.attach_mode(self.capability, readonly=self.readonly)

    @property
    def access(self) -> str:
        return access.describe(self.capability)

    @property
    def is_multi_node(self) -> bool:
        return access.needs_multiattach([self.capability])

    @property
    def is_single_writer(self) -> bool:
        return self.capability.access_mode.mode == access.AccessMode.MULTI_NODE_SINGLE_WRITER

    def whole(self) -> list[Any]:
        """What a repeat of the running request must have in common with it, as JSON."""
        return [
            "publish",
            self.node_id,
            normalize_capability(self.capability),
            self.readonly,
            dict(self.volume_context),
        ]


def controller_publish_volume(
    context: ControllerContext, request: csi_pb2.ControllerPublishVolumeRequest, call: Call
) -> csi_pb2.ControllerPublishVolumeResponse:
    """CSI spec, "ControllerPublishVolume"."""
    publish = _read_request(context, request)
    publish_context = context.run(
        resource_of(VolumeRecord, publish.volume_id), publish.whole(), lambda: _publish(context, publish), call
    )
    return csi_pb2.ControllerPublishVolumeResponse(publish_context=publish_context)


def controller_unpublish_volume(
    context: ControllerContext, request: csi_pb2.ControllerUnpublishVolumeRequest, call: Call
) -> csi_pb2.ControllerUnpublishVolumeResponse:
    """CSI spec, "ControllerUnpublishVolume". OK when volume, node or connection is gone."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    context.run(
        resource_of(VolumeRecord, request.volume_id),
        ["unpublish", request.node_id],
        lambda: _unpublish(context, request.volume_id, request.node_id),
        call,
    )
    return csi_pb2.ControllerUnpublishVolumeResponse()


def _read_request(context: ControllerContext, request: csi_pb2.ControllerPublishVolumeRequest) -> PublishRequest:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "node_id", "volume_capability")
    request_rules.check_capability(request.volume_capability, field="volume_capability")
    access.check_access([request.volume_capability], context.configuration, field="volume_capability")
    return PublishRequest(
        volume_id=request.volume_id,
        node_id=request.node_id,
        capability=request.volume_capability,
        readonly=request.readonly,
        volume_context=request.volume_context,
    )


def _publish(context: ControllerContext, request: PublishRequest) -> dict[str, str]:
    """The publish_context."""
    volume = lookups.get_volume(context.store, request.volume_id)
    node = lookups.get_node(context.store, request.node_id)
    _check_volume(volume, request)
    connections = lookups.connections_of(context.store, volume.id)
    _check_other_nodes(volume, request, connections)
    present = next((connection for connection in connections if connection.node_id == node.id), None)
    if present is not None and present.attach_status == "attached":
        _check_same_node(present, request)
    is_outdated = present is not None and changed_connectors.has_changed(present, node)
    if present is not None and present.attach_status == "attached" and not is_outdated:
        return _publish_context(context, volume, present, node)
    if request.is_multi_node and not volume.multiattach:
        raise invalid_argument(
            f"volume_capability.access_mode: volume {volume.id} was created for a single node; publish it with a "
            "SINGLE_NODE mode, or create a volume with a MULTI_NODE one"
        )
    initiator_conflicts.check_owner(context, node)
    if present is not None and is_outdated:
        changed_connectors.end_export(context, volume, present, node)
        volume = lookups.get_volume(context.store, volume.id)
    with context.node_limits.reserve(context.store, node, volume.id):
        return _publish_context(context, volume, _connect(context, volume, node, request), node)


def _check_volume(volume: VolumeRecord, request: PublishRequest) -> None:
    if volume.intent is None:  # not created for the CO: there is nothing to compare with
        return
    if volume.intent.phase is Phase.DELETING:
        raise aborted(f"volume {volume.id} is being deleted")
    volume_context = own_context(request.volume_context)
    if volume_context and volume_context != volume.intent.context:
        raise invalid_argument("volume_context is not the one that the volume was created with")


def _publish_context(
    context: ControllerContext, volume: VolumeRecord, connection: ConnectionRecord, node: NodeRecord
) -> dict[str, str]:
    """What the node needs to attach the volume, readable for that node alone."""
    had_filesystem = filesystem_records.had_filesystem(context.store, volume)
    sealed = seal_connection(context, volume, connection, node, had_filesystem=had_filesystem)
    published = {"connection": base64.b64encode(sealed).decode(), "sealed": "x25519"}
    return published | ({UNFENCED: "true"} if lost_nodes.is_unfenced(connection) else {})


def _check_same_node(present: ConnectionRecord, request: PublishRequest) -> None:
    """The volume is on this node already: the same way, or ALREADY_EXISTS."""
    access_now = (present.connector or {}).get(access.ACCESS_KEY, request.access)
    if (access_now, present.attach_mode) != (request.access, request.attach_mode):
        raise already_exists(
            f"volume {request.volume_id} is published to node {request.node_id} as {access_now} "
            f"({present.attach_mode}), which differs from {request.access} ({request.attach_mode})"
        )


def _check_other_nodes(volume: VolumeRecord, request: PublishRequest, connections: list[ConnectionRecord]) -> None:
    """FAILED_PRECONDITION while the volume is on another node and may not be on two."""
    others = [connection for connection in connections if connection.node_id != request.node_id]
    if not others:
        return
    where = ", ".join(sorted(connection.node_id or "a host outside CSI" for connection in others))
    if not request.is_multi_node or not volume.multiattach:
        raise failed_precondition(f"volume {volume.id} is published to {where}, and is not for several nodes")
    if any(not _is_multi_node(connection) for connection in others):
        raise failed_precondition(f"volume {volume.id} is published to {where} for a single node")
    writers = [connection for connection in others if connection.attach_mode == "rw"]
    for_single_writer = request.is_single_writer or any("SINGLE_WRITER" in _mode(connection) for connection in others)
    if for_single_writer and request.attach_mode == "rw" and writers:
        raise failed_precondition(f"volume {volume.id} has its single writer on {writers[0].node_id}")


def _is_multi_node(connection: ConnectionRecord) -> bool:
    return "MULTI_NODE" in _mode(connection)


def _mode(connection: ConnectionRecord) -> str:
    """Name of the access mode with which a connection was published; empty where it was not for a CO."""
    return str((connection.connector or {}).get(access.ACCESS_KEY, "")).rpartition("/")[2]


def _connect(
    context: ControllerContext, volume: VolumeRecord, node: NodeRecord, request: PublishRequest
) -> ConnectionRecord:
    """Let the driver export the volume; an interrupted attempt's record is taken over and the driver called again."""
    _check_snapshots(context, volume)
    with driver_errors(f"publishing volume {volume.id} to node {node.id}"):
        own = {"mode": request.attach_mode, access.ACCESS_KEY: request.access, PUBLIC_KEY: node.public_key}
        connection = storage_objects.volume(context, volume).connect(
            node_connectors.for_drivers(context.store, node) | own,
            id=context.identifiers.of_connection(volume.id, node.id),
            node_id=node.id,
            attach_mode=request.attach_mode,
        )
    record: ConnectionRecord = connection.record
    return record


def _check_snapshots(context: ControllerContext, volume: VolumeRecord) -> None:
    """FAILED_PRECONDITION while snapshots keep the volume in a form that no node can attach."""
    if storage_objects.backend(context, volume.backend).supports("snapshots_in_use"):
        return
    if snapshots := context.store.find(SnapshotRecord, volume_id=volume.id, limit=1):
        raise failed_precondition(
            f"volume {volume.id} has snapshots ({snapshots[0].id}...), with which backend {volume.backend} keeps it as "
            "qcow2, and nodes attach raw files only: delete them first, or use a volume restored from one"
        )


def _unpublish(context: ControllerContext, volume_id: str, node_id: str) -> None:
    connections = lookups.connections_of(context.store, volume_id, node_id or None)
    for record in connections:
        lost_nodes.check_unstaged(context.store, record)
    for record in connections:
        if not record.node_id:
            continue  # created by a program that uses the library, which ends it itself
        volume = context.store.get(VolumeRecord, volume_id)
        if volume is None:
            context.store.delete(record)
            continue
        node = context.store.get(NodeRecord, record.node_id)
        if node is not None and volume_id in filesystem_records.listed(node):
            # The node's list counts only as long as the volume is published to it.
            filesystem_records.note(context.store, volume_id)
            filesystem_records.clear(context.store, node.id, [volume_id])
        with driver_errors(f"unpublishing volume {volume_id} from node {record.node_id}"):
            storage_objects.connection(context, record, backend_name=volume.backend).disconnect()
