"""A served controller and its clients."""

import base64
import threading
import zlib
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from csi_plugin.controller.service import ControllerService
from csi_plugin.persistence.base import RecordStore
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc, node_registry_pb2_grpc, sealed_box
from csi_plugin.protocol.node_identity import NodeIdentity
from csi_plugin.storage.backend_set import BackendSet
from tests.support.csi import create_request, mount
from tests.support.loop_volumes import file_names

Serve = Callable[..., "Plugin"]


@dataclass
class Plugin:
    """A served controller and clients of it."""

    service: ControllerService
    backends: BackendSet
    store: RecordStore
    controller: csi_pb2_grpc.ControllerStub
    groups: csi_pb2_grpc.GroupControllerStub
    nodes: node_registry_pb2_grpc.NodeRegistryStub
    directory: Path

    def files(self) -> list[str]:
        """What the loop driver has in its directory."""
        return file_names(self.directory)

    def create(self, name: str, size: int = 1, **fields: Any) -> csi_pb2.Volume:
        return self.controller.CreateVolume(create_request(name, size, **fields)).volume

    def snapshot(self, name: str, volume_id: str, **fields: Any) -> csi_pb2.Snapshot:
        request = csi_pb2.CreateSnapshotRequest(name=name, source_volume_id=volume_id, **fields)
        return self.controller.CreateSnapshot(request).snapshot

    def delete(self, volume_id: str, *, timeout: float | None = None) -> None:
        self.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id), timeout=timeout)

    def publish(self, volume_id: str, node_id: str, **fields: Any) -> dict[str, str]:
        fields.setdefault("volume_capability", mount())
        request = csi_pb2.ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node_id, **fields)
        return dict(self.controller.ControllerPublishVolume(request).publish_context)

    def unpublish(self, volume_id: str, node_id: str = "") -> None:
        request = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id=node_id)
        self.controller.ControllerUnpublishVolume(request)

    def add_node(self, node_id: str, *, max_volumes: int = 0, **connector: Any) -> bytes:
        """Register a node; its private key."""
        private_key = sealed_box.generate_private_key()
        identity = NodeIdentity(
            node_id=node_id,
            connector={"host": node_id, "ip": f"2001:db8::{zlib.crc32(node_id.encode()) % 65536:x}", **connector},
            public_key=sealed_box.public_key_of(private_key),
            max_volumes=max_volumes,
        )
        self.service.node_registry.register(identity)
        return private_key

    def list(self) -> list[str]:
        return [entry.volume.volume_id for entry in self.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries]


def in_threads(count: int, action: Callable[[int], Any]) -> list[Any]:
    """Run ``action`` in that many threads at once; results or errors in order."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return action(number)
        except grpc.RpcError as error:
            return error

    with futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def unsealed(context: dict[str, str], private_key: bytes, *, node_id: str, volume_id: str) -> bytes:
    return sealed_box.open_from_controller(
        private_key, base64.b64decode(context["connection"]), associated_data=f"{node_id}/{volume_id}".encode()
    )
