"""What every RPC of the node works with."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from csi_plugin.attachment.commands import CommandFailed
from csi_plugin.node.attachment_process import AttachmentProcess
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.registration import Registration
from csi_plugin.node.volume_state import VolumeStates
from csi_plugin.protocol.errors import RpcError, internal, unavailable
from csi_plugin.protocol.inflight import InFlight


@dataclass(kw_only=True)
class Core:
    """Shared by all RPCs; everything in it is thread-safe."""

    configuration: NodeConfiguration
    states: VolumeStates
    attachment_process: AttachmentProcess
    inflight: InFlight
    registration: Registration | None = None
    """Set when the registry is known, which in mode all is after the controller has started."""

    def run(self, volume_id: str, what: str, request: Message, context: Any, action: Callable[[], None]) -> None:
        """Run one operation on a volume at a time; a repeat waits and shares the outcome. Faults of programs and
        devices become INTERNAL with their own words."""
        fingerprint = f"{what} {hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()}"
        self.inflight.run(
            f"node/{volume_id}", fingerprint, lambda: _with_status(action), wait_seconds=context.time_remaining()
        )

    def seal_context(self, volume_id: str) -> str:
        """What sealed connection information is bound to."""
        return f"{self.configuration.node_id}/{volume_id}"

    def fresh_connection(self, volume_id: str) -> str:
        """Connection information sealed to the node's present key, from the controller.

        Raises UNAVAILABLE and NOT_FOUND.
        """
        if self.registration is None:
            raise unavailable("the controller's node registry is not known yet; try again")
        try:
            return self.registration.connection(volume_id)
        except grpc.RpcError as error:
            raise RpcError(error.code(), f"node registry: {error.details()}") from error


def _with_status(action: Callable[[], None]) -> None:
    try:
        action()
    except (CommandFailed, OSError) as error:
        raise internal(str(error)) from error
