"""ControllerPublishVolume and ControllerUnpublishVolume: a volume's connections to nodes."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from csi_plugin.controller import access, initiators, lookups, storage_objects
from csi_plugin.controller.context import Call, Core
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.fingerprint import fingerprint, normal_capability
from csi_plugin.controller.parameters import own_context, volume_parameters
from csi_plugin.persistence.records import (
    PUBLIC_KEY,
    ConnectionRecord,
    NodeRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.protocol import csi_pb2, request_rules
from csi_plugin.protocol.errors import aborted, already_exists, failed_precondition, invalid_argument, not_found
from csi_plugin.protocol.sealed_box import SealedBoxError, seal_to_node

ACCESS_KEY = "csi_access"
"""Entry of a connection's connector that says how the volume was published; drivers ignore what they don't know."""

MODES_WRITING_ONCE = frozenset({access.AccessMode.MULTI_NODE_SINGLE_WRITER})


@dataclass(frozen=True, kw_only=True)
class WantedPublication:
    """A valid ControllerPublishVolumeRequest."""

    volume_id: str
    node_id: str
    capability: csi_pb2.VolumeCapability
    readonly: bool

    @property
    def attach_mode(self) -> str:
        return access.attach_mode(self.capability, readonly=self.readonly)

    @property
    def access(self) -> str:
        return access.described(self.capability)


def controller_publish_volume(
    core: Core, request: csi_pb2.ControllerPublishVolumeRequest, call: Call
) -> csi_pb2.ControllerPublishVolumeResponse:
    """CSI spec, "ControllerPublishVolume"."""
    wanted = _validated(core, request)
    whole = fingerprint(
        ["publish", wanted.node_id, normal_capability(wanted.capability), wanted.readonly, dict(request.volume_context)]
    )
    context = core.inflight.run(
        f"volume/{wanted.volume_id}",
        whole,
        lambda: _published(core, wanted, own_context(request.volume_context)),
        wait_seconds=call.time_remaining(),
    )
    return csi_pb2.ControllerPublishVolumeResponse(publish_context=context)


def controller_unpublish_volume(
    core: Core, request: csi_pb2.ControllerUnpublishVolumeRequest, call: Call
) -> csi_pb2.ControllerUnpublishVolumeResponse:
    """CSI spec, "ControllerUnpublishVolume". OK when volume, node or connection is gone."""
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id")
    core.inflight.run(
        f"volume/{request.volume_id}",
        fingerprint(["unpublish", request.node_id]),
        lambda: _unpublish(core, request.volume_id, request.node_id),
        wait_seconds=call.time_remaining(),
    )
    return csi_pb2.ControllerUnpublishVolumeResponse()


def publish_context(core: Core, volume: VolumeRecord, connection: ConnectionRecord, node: NodeRecord) -> dict[str, str]:
    """What the node needs to attach the volume, readable for that node alone."""
    sealed = sealed_connection(volume, connection, node)
    return {"connection": base64.b64encode(sealed).decode(), "sealed": "x25519"}


def sealed_connection(volume: VolumeRecord, connection: ConnectionRecord, node: NodeRecord) -> bytes:
    """The connection information with what the node checks it against, as JSON sealed to the node's key."""
    stored: Any = connection.connection_info or {}
    plan = dict(stored.get("conn") or {})
    plan |= {"volume_id": volume.id, "size": volume.size, "attach_mode": connection.attach_mode or "rw"}
    if encryption := _encryption(volume):
        plan["encryption"] = encryption
    try:
        return seal_to_node(
            base64.b64decode(node.public_key), json.dumps(plan).encode(), context=f"{node.id}/{volume.id}".encode()
        )
    except (ValueError, SealedBoxError) as error:
        raise failed_precondition(f"node_id: node {node.id} registered no usable public key: {error}") from error


def _validated(core: Core, request: csi_pb2.ControllerPublishVolumeRequest) -> WantedPublication:
    request_rules.check_sizes(request)
    request_rules.require(request, "volume_id", "node_id", "volume_capability")
    request_rules.check_capability(request.volume_capability, field="volume_capability")
    access.check_access([request.volume_capability], core.configuration, field="volume_capability")
    return WantedPublication(
        volume_id=request.volume_id,
        node_id=request.node_id,
        capability=request.volume_capability,
        readonly=request.readonly,
    )


def _published(core: Core, wanted: WantedPublication, context: dict[str, str]) -> dict[str, str]:
    volume = lookups.existing_volume(core.store, wanted.volume_id)
    node = core.store.get(NodeRecord, wanted.node_id) if lookups.possible_id(wanted.node_id) else None
    if node is None:
        raise not_found(f"node_id: no node of the name {wanted.node_id!r} has registered")
    if volume.intent is not None:
        if volume.intent.phase is Phase.DELETING:
            raise aborted(f"volume {volume.id} is being deleted")
        if context and context != volume.intent.context:
            raise invalid_argument("volume_context is not the one that the volume was created with")
    connections = lookups.connections_of(core.store, volume.id)
    _check_other_nodes(volume, wanted, connections)
    present = next((connection for connection in connections if connection.node_id == node.id), None)
    if present is not None and present.attach_status == "attached":
        _check_same_node(present, wanted)
        return publish_context(core, volume, present, node)
    initiators.check_owner(core, node)
    with core.node_limits.place(core.store, node, volume.id):
        return publish_context(core, volume, _connected(core, volume, node, wanted), node)


def _check_same_node(present: ConnectionRecord, wanted: WantedPublication) -> None:
    """The volume is on this node already: the same way, or ALREADY_EXISTS."""
    access_now = (present.connector or {}).get(ACCESS_KEY, wanted.access)
    if (access_now, present.attach_mode) != (wanted.access, wanted.attach_mode):
        raise already_exists(
            f"volume {wanted.volume_id} is published to node {wanted.node_id} as {access_now} "
            f"({present.attach_mode}), which differs from {wanted.access} ({wanted.attach_mode})"
        )


def _check_other_nodes(volume: VolumeRecord, wanted: WantedPublication, connections: list[ConnectionRecord]) -> None:
    """FAILED_PRECONDITION while the volume is on another node and may not be on two."""
    others = [connection for connection in connections if connection.node_id != wanted.node_id]
    if not others:
        return
    where = ", ".join(sorted(connection.node_id or "a host outside CSI" for connection in others))
    if wanted.capability.access_mode.mode not in access.MULTI_NODE or not volume.multiattach:
        raise failed_precondition(f"volume {volume.id} is published to {where}, and is not for several nodes")
    if any(not _for_several(connection) for connection in others):
        raise failed_precondition(f"volume {volume.id} is published to {where} for a single node")
    writers = [connection for connection in others if connection.attach_mode == "rw"]
    if wanted.capability.access_mode.mode in MODES_WRITING_ONCE and wanted.attach_mode == "rw" and writers:
        raise failed_precondition(f"volume {volume.id} has its single writer on {writers[0].node_id}")


def _for_several(connection: ConnectionRecord) -> bool:
    mode = (connection.connector or {}).get(ACCESS_KEY, "").rpartition("/")[2]
    return "MULTI_NODE" in mode


def _connected(core: Core, volume: VolumeRecord, node: NodeRecord, wanted: WantedPublication) -> ConnectionRecord:
    """Let the driver export the volume; an interrupted try's record is taken over and the driver called again."""
    _check_snapshots(core, volume)
    with driver_errors(f"publishing volume {volume.id} to node {node.id}"):
        own = {"mode": wanted.attach_mode, ACCESS_KEY: wanted.access, PUBLIC_KEY: node.public_key}
        connection = storage_objects.volume(core, volume).connect(
            dict(node.connector) | own,
            id=core.identifiers.of_connection(volume.id, node.id),
            node_id=node.id,
            attach_mode=wanted.attach_mode,
        )
    record: ConnectionRecord = connection.record
    return record


def _check_snapshots(core: Core, volume: VolumeRecord) -> None:
    """FAILED_PRECONDITION while snapshots keep the volume in a form that no node can attach."""
    if storage_objects.backend(core, volume.backend).supports("snapshots_in_use"):
        return
    if snapshots := core.store.find(SnapshotRecord, volume_id=volume.id, limit=1):
        raise failed_precondition(
            f"volume {volume.id} has snapshots ({snapshots[0].id}...), with which backend {volume.backend} keeps it as "
            "qcow2, and nodes attach raw files only: delete them first, or use a volume restored from one"
        )


def _unpublish(core: Core, volume_id: str, node_id: str) -> None:
    for record in lookups.connections_of(core.store, volume_id, node_id or None):
        if not record.node_id:
            continue  # made by a program that uses the library, which ends it itself
        volume = core.store.get(VolumeRecord, volume_id)
        if volume is None:
            core.store.delete(record)
            continue
        with driver_errors(f"unpublishing volume {volume_id} from node {record.node_id}"):
            storage_objects.connection(core, record, backend_name=volume.backend).disconnect()


def _encryption(volume: VolumeRecord) -> dict[str, str]:
    request = volume.intent.request if volume.intent else {}
    return volume_parameters(request.get("parameters", {}), {}).encryption
