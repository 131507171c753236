"""Volumes that this node has, and that neither the controller nor a pod wants here any more: they are released.

The orchestrator unstages what it knows to be staged. It does not after a staging that failed for good, or when it has
lost its own memory; then the device stays, and the volume cannot be deleted: its storage says that it is in use.
"""

import logging
import threading
import time
from dataclasses import dataclass

import grpc

from csi_plugin.node import stage
from csi_plugin.node.context import NodeContext, inflight_key
from csi_plugin.node.staged_volumes import published_at
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol.errors import RpcError

LOG = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0
"""For how long nobody has to want a volume: what the controller tells may be a while old."""


@dataclass
class UnwantedVolumes:
    """Looks at the volumes of this node again and again, in a thread of its own."""

    context: NodeContext

    def __post_init__(self) -> None:
        self._unwanted_since: dict[str, float] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start looking, as often as for lost connections, unless that is never."""
        if self.context.configuration.reconnect_interval_seconds:
            threading.Thread(target=self._run, name="unwanted-volumes", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self.context.configuration.reconnect_interval_seconds):
            try:
                self.look(time.monotonic())
            except Exception:
                # Whatever it was, the next look must come.
                LOG.exception("volumes that nobody wants cannot be looked for")

    def look(self, now: float) -> None:
        """Release what nobody has wanted for long enough. ``now``: seconds of the caller's clock."""
        # What a pod has is not asked for: most of the time, nothing is.
        idle = [state.volume_id for state in self.context.states.all() if not _is_shown(state)]
        unwanted = self._unpublished(idle)
        self._unwanted_since = {volume_id: self._unwanted_since.get(volume_id, now) for volume_id in unwanted}
        for volume_id, since in self._unwanted_since.items():
            if now - since >= PATIENCE_SECONDS:
                self._release(volume_id)

    def _unpublished(self, volume_ids: list[str]) -> list[str]:
        registration = self.context.registration
        if not volume_ids or registration is None:
            return []
        try:
            return registration.unpublished(volume_ids)
        except (RpcError, grpc.RpcError) as error:
            LOG.debug("what is published to this node is not known now: %s", error)
            return []

    def _release(self, volume_id: str) -> None:
        try:
            with self.context.inflight.hold(inflight_key(volume_id)):
                stage.release(self.context, volume_id)
        except Exception as error:
            # Whatever it was, the other volumes must not suffer.
            LOG.warning("volume %s, which is not published to this node, cannot be released: %s", volume_id, error)
            LOG.debug("volume %s cannot be released", volume_id, exc_info=True)
        else:
            LOG.warning("volume %s was here, unused and not published to this node: it was released", volume_id)


def _is_shown(state: VolumeState) -> bool:
    """Whether a pod has it, by the kernel's tables."""
    return bool(state.device_path and published_at(state))
