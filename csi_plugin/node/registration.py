"""The node tells the controller who it is on the storage network, and the key to seal its connections to."""

import base64
import logging
import threading
from typing import Protocol

import grpc

from csi_plugin.node.attachment_process import AttachmentProcess
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.protocol import node_identity, node_registry_pb2, node_registry_pb2_grpc
from csi_plugin.protocol.backoff import Backoff
from csi_plugin.protocol.node_identity import NodeIdentity

LOG = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 60.0
_REFRESH_SECONDS = 300.0
"""Registering again keeps the node's entry alive, and brings a controller up to date that lost its metadata."""
_CALL_SECONDS = 30


class Registry(Protocol):
    """The controller's node registry."""

    def register(self, identity: NodeIdentity) -> None:
        """Store or replace what the controller knows of the node."""

    def connection(self, node_id: str, volume_id: str) -> bytes:
        """Connection information of a published volume, sealed to the key that the node has registered last."""

    def record_filesystem(self, node_id: str, volume_id: str, filesystem: str) -> None:
        """Remember with a published volume, for its whole life, that it has a filesystem."""


class RemoteRegistry:
    """The registry of a controller in another process. Raises grpc.RpcError."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = node_registry_pb2_grpc.NodeRegistryStub(channel)

    def register(self, identity: NodeIdentity) -> None:
        self._stub.RegisterNode(node_identity.to_request(identity), timeout=_CALL_SECONDS)

    def connection(self, node_id: str, volume_id: str) -> bytes:
        request = node_registry_pb2.GetConnectionRequest(node_id=node_id, volume_id=volume_id)
        return self._stub.GetConnection(request, timeout=_CALL_SECONDS).sealed_connection

    def record_filesystem(self, node_id: str, volume_id: str, filesystem: str) -> None:
        request = node_registry_pb2.RecordFilesystemRequest(node_id=node_id, volume_id=volume_id, filesystem=filesystem)
        self._stub.RecordFilesystem(request, timeout=_CALL_SECONDS)


class Registration:
    """Registers the node in a thread of its own, until it has worked, and then again from time to time."""

    def __init__(
        self, configuration: NodeConfiguration, attachment_process: AttachmentProcess, registry: Registry
    ) -> None:
        self._configuration = configuration
        self._attachment_process = attachment_process
        self._registry = registry
        self._stopping = threading.Event()
        self.registered = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="registration", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def connection(self, volume_id: str) -> str:
        """Connection information of a volume sealed to this node's present key, in base64. Registers first.

        Raises what the registry raises.
        """
        self._register()
        return base64.b64encode(self._registry.connection(self._configuration.node_id, volume_id)).decode()

    def record_filesystem(self, volume_id: str, filesystem: str) -> None:
        """Let it be remembered that a volume of this node has a filesystem. Raises what the registry raises."""
        self._registry.record_filesystem(self._configuration.node_id, volume_id, filesystem)

    def _run(self) -> None:
        backoff = Backoff(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
        while not self._stopping.is_set():
            try:
                self._register()
            except Exception as error:
                # Whatever it was, a node that stops trying is lost to its cluster.
                pause = backoff.next_pause()
                LOG.warning("the node is not registered, retrying in %.0f s: %s", pause, _reason(error))
                LOG.debug("the node is not registered", exc_info=True)
                self._stopping.wait(pause)
            else:
                backoff.reset()
                self._stopping.wait(_REFRESH_SECONDS)

    def _register(self) -> None:
        configuration = self._configuration
        configuration.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        identified = self._attachment_process.run("identify", my_ip=configuration.storage_network_ip)
        self._registry.register(
            NodeIdentity(
                node_id=configuration.node_id,
                connector=identified["connector"],
                public_key=base64.b64decode(identified["public_key"]),
                topology=configuration.topology,
                max_volumes=configuration.max_volumes,
            )
        )
        if not self.registered.is_set():
            LOG.info("the node is registered as %s", configuration.node_id)
            self.registered.set()


def _reason(error: Exception) -> str:
    details = getattr(error, "details", None)
    return str(details()) if callable(details) else str(error)
