"""Connection information sealed to a node's key, with what the node checks it against."""

import base64
import json
from typing import Any

from csi_plugin.controller import luks_headers
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.error_table import driver_errors
from csi_plugin.controller.requests.parameters import parse_volume_parameters
from csi_plugin.persistence.records import JSON, ConnectionRecord, NodeRecord, VolumeRecord
from csi_plugin.persistence.sealing import check_opened
from csi_plugin.protocol.errors import failed_precondition
from csi_plugin.protocol.host_names import identity
from csi_plugin.protocol.sealed_box import SealedBoxError, seal_to_node
from csi_plugin.storage.cinder import driver_calls


def seal_connection(
    context: ControllerContext,
    volume: VolumeRecord,
    connection: ConnectionRecord,
    node: NodeRecord,
    *,
    had_filesystem: bool,
) -> bytes:
    """The connection information, with the backend's keys of now, as JSON that the node alone can read.

    ``had_filesystem``: as recorded, so that the node never makes another one.

    Raises FAILED_PRECONDITION when the node registered no usable key, and for a record that does not open.
    """
    with driver_errors("reading the connection"):
        check_opened(connection)
    stored: Any = connection.connection_info or {}
    plan = _with_present_keys(context, volume, stored.get("conn") or {})
    plan |= {"volume_id": volume.id, "size": volume.size, "attach_mode": connection.attach_mode or "rw"}
    plan["exported_to"] = identity(connection.connector or {})
    if had_filesystem:
        plan["formatted"] = True
    if networks := context.store.cluster_networks():
        plan["cluster_networks"] = networks
    if encryption := _encryption(volume):
        plan["encryption"] = encryption
    try:
        return seal_to_node(
            base64.b64decode(node.public_key),
            json.dumps(plan).encode(),
            associated_data=f"{node.id}/{volume.id}".encode(),
        )
    except (ValueError, SealedBoxError) as error:
        raise failed_precondition(f"node_id: node {node.id} registered no usable public key: {error}") from error


def _with_present_keys(context: ControllerContext, volume: VolumeRecord, connection_info: JSON) -> JSON:
    backend = context.backends.find_ready(volume.backend)
    return dict(connection_info) if backend is None else driver_calls.with_present_keys(backend.driver, connection_info)


def _encryption(volume: VolumeRecord) -> JSON:
    """What the node needs to know to encrypt the volume, as its class says; empty for one in clear."""
    request = volume.intent.request if volume.intent else {}
    encryption = parse_volume_parameters(request.get("parameters", {}), {}).encryption
    header = luks_headers.header_gib(volume)
    return {**encryption, "header_gib": header} if encryption and header else dict(encryption)
