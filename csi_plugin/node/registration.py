"""The node tells the controller who it is on the storage network, and the key to seal its connections to."""

import base64
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import grpc

from csi_plugin.node.attachment_process import AttachmentProcess
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.protocol import node_identity, node_registry_pb2, node_registry_pb2_grpc
from csi_plugin.protocol.backoff import Backoff
from csi_plugin.protocol.errors import RpcError
from csi_plugin.protocol.node_identity import ATTACHED_VOLUMES, STAGED_VOLUMES, NodeIdentity
from csi_plugin.protocol.offers import PLUGIN

LOG = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 60.0
_REFRESH_SECONDS = 300.0
"""Registering again keeps the node's entry alive, and brings a controller up to date that lost its metadata."""
_SHORT_REFRESH_SECONDS = 120.0
"""The same while volumes are staged that a node keeps as long as it is heard of."""
_TELL_SECONDS = 5.0
"""How long an unstage waits for the controller to know of it, which unpublishes the volume next."""
_CALL_SECONDS = 30


class Registry(Protocol):
    """The controller's node registry."""

    tells_publications: bool
    """Whether connection() raises NOT_FOUND for volumes that are not published to the node, and for no others."""

    def register(self, identity: NodeIdentity) -> frozenset[str] | None:
        """Store or replace what the controller knows of the node; what the plugin offers, if that is told."""

    def connection(self, node_id: str, volume_id: str) -> bytes:
        """Connection information of a published volume, sealed to the key that the node has registered last."""

    def published(self, node_id: str) -> list[str] | None:
        """Where connection() does not tell: ids of the volumes that are published to the node, as of a while ago. None
        where that is not known."""

    def record_filesystem(self, node_id: str, volume_id: str, filesystem: str) -> None:
        """Remember with a published volume, for its whole life, that it has a filesystem."""


class RemoteRegistry:
    """The registry of a controller in another process. Raises grpc.RpcError."""

    tells_publications = True

    def __init__(self, channel: Callable[[], grpc.Channel]) -> None:
        """``channel`` is asked before each call: its certificates may have been renewed."""
        self._channel = channel

    def register(self, identity: NodeIdentity) -> frozenset[str] | None:
        response = self._stub().RegisterNode(node_identity.to_request(identity), timeout=_CALL_SECONDS)
        return frozenset(response.offers) - {PLUGIN} if PLUGIN in response.offers else None

    def connection(self, node_id: str, volume_id: str) -> bytes:
        request = node_registry_pb2.GetConnectionRequest(node_id=node_id, volume_id=volume_id)
        return self._stub().GetConnection(request, timeout=_CALL_SECONDS).sealed_connection

    def published(self, node_id: str) -> list[str] | None:
        return None

    def record_filesystem(self, node_id: str, volume_id: str, filesystem: str) -> None:
        request = node_registry_pb2.RecordFilesystemRequest(node_id=node_id, volume_id=volume_id, filesystem=filesystem)
        self._stub().RecordFilesystem(request, timeout=_CALL_SECONDS)

    def _stub(self) -> node_registry_pb2_grpc.NodeRegistryStub:
        return node_registry_pb2_grpc.NodeRegistryStub(self._channel())


class Registration:
    """Registers the node in a thread of its own, until it has worked, and then again from time to time."""

    def __init__(
        self,
        configuration: NodeConfiguration,
        attachment_process: AttachmentProcess,
        registry: Registry,
        *,
        staged: Callable[[], list[str]] = list,
        attached: Callable[[], list[str]] = list,
    ) -> None:
        """``staged``: ids of staged volumes that nothing but this node keeps from being written to; ``attached``: of
        all whose device is here."""
        self._configuration = configuration
        self._attachment_process = attachment_process
        self._registry = registry
        self._staged = staged
        self._attached = attached
        self._coming: set[str] = set()
        """Volumes that are being staged, of the same kind."""
        self._one_at_a_time = threading.Lock()
        self._identified: Any = None
        self._identified_at = 0.0
        self._told: list[str] | None = None
        """The list of staged volumes as it was registered last; None when it was an earlier process that did."""
        self._changed = threading.Condition()
        self._is_due = False
        self._stopping = threading.Event()
        self.registered = threading.Event()
        self.offers: frozenset[str] | None = None
        """What the plugin offers, as the controller has told; None while that is not known."""

    def start(self) -> None:
        threading.Thread(target=self._run, name="registration", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._make_due()

    @contextmanager
    def staging(self, volume_id: str) -> Iterator[None]:
        """Let the controller know that a volume is staged here before it is. Raises what the registry raises."""
        self._coming.add(volume_id)
        try:
            self._register(seconds_old=_REFRESH_SECONDS)
            yield
        finally:
            self._coming.discard(volume_id)
            if self._held() != self._told:
                self._make_due()

    def tell_unstaged(self, volume_id: str) -> None:
        """Let the controller know that a volume went; it is told later where that does not work at once."""
        if self._told is not None and volume_id not in self._told:
            return
        self._make_due()
        with self._changed:
            self._changed.wait_for(lambda: self._told is not None and volume_id not in self._told, _TELL_SECONDS)

    def connector(self) -> Mapping[str, Any] | None:
        """This host's connector properties, as they were found last."""
        return None if self._identified is None else self._identified["connector"]

    def connection(self, volume_id: str) -> str:
        """Connection information of a volume sealed to this node's present key, in base64. Registers first.

        Raises what the registry raises.
        """
        self._register()
        return base64.b64encode(self._registry.connection(self._configuration.node_id, volume_id)).decode()

    def was_taken_away(self, volume_id: str) -> bool:
        """Whether a volume is certainly not published to this node any more."""
        if not self._registry.tells_publications:
            return False
        try:
            self.connection(volume_id)
        except RpcError as error:
            return error.code is grpc.StatusCode.NOT_FOUND
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.NOT_FOUND)
        return False

    def unpublished(self, volume_ids: list[str]) -> list[str]:
        """Those of these volumes that are not published to this node, as of a while ago. Raises what the registry
        raises."""
        if self._registry.tells_publications:
            return [volume_id for volume_id in volume_ids if self.was_taken_away(volume_id)]
        published = self._registry.published(self._configuration.node_id)
        return [] if published is None else [volume_id for volume_id in volume_ids if volume_id not in published]

    def record_filesystem(self, volume_id: str, filesystem: str) -> None:
        """Let it be remembered that a volume of this node has a filesystem. Raises what the registry raises."""
        self._registry.record_filesystem(self._configuration.node_id, volume_id, filesystem)

    def _run(self) -> None:
        backoff = Backoff(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
        while not self._stopping.is_set():
            self._is_due = False
            try:
                self._register(seconds_old=_REFRESH_SECONDS)
            except Exception as error:
                # Whatever it was, a node that stops trying is lost to its cluster.
                pause = backoff.next_pause()
                LOG.warning("the node is not registered, retrying in %.0f s: %s", pause, _reason(error))
                LOG.debug("the node is not registered", exc_info=True)
                self._wait(pause)
            else:
                backoff.reset()
                self._wait(_SHORT_REFRESH_SECONDS if self._told else _REFRESH_SECONDS)

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_due, seconds)

    def _make_due(self) -> None:
        with self._changed:
            self._is_due = True
            self._changed.notify_all()

    def _held(self) -> list[str]:
        return sorted({*self._staged(), *self._coming})

    def _register(self, *, seconds_old: float = 0.0) -> None:
        """``seconds_old``: how old what is known of this host may be."""
        with self._one_at_a_time:
            self._register_now(seconds_old)
        with self._changed:
            self._changed.notify_all()

    def _register_now(self, seconds_old: float) -> None:
        configuration = self._configuration
        configuration.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._identified is None or time.monotonic() - self._identified_at >= seconds_old:
            self._identified = self._attachment_process.run("identify", my_ip=configuration.storage_network_ip)
            self._identified_at = time.monotonic()
        identified, held = self._identified, self._held()
        lists = ({STAGED_VOLUMES: held} if held else {}) | {ATTACHED_VOLUMES: sorted(self._attached())}
        offers = self._registry.register(
            NodeIdentity(
                node_id=configuration.node_id,
                connector=identified["connector"] | lists,
                public_key=base64.b64decode(identified["public_key"]),
                topology=configuration.topology,
                max_volumes=configuration.max_volumes,
            )
        )
        self._told = held
        if offers is not None:
            self.offers = offers
        if not self.registered.is_set():
            LOG.info("the node is registered as %s", configuration.node_id)
            self.registered.set()


def _reason(error: Exception) -> str:
    details = getattr(error, "details", None)
    return str(details()) if callable(details) else str(error)
