"""Room that filesystems do not use any more, given back to the storage from time to time (fstrim).

Thin storage does not learn of files that were deleted. The mount flag ``discard`` tells it of each at once, which costs
each deletion; this tells it of all of them together.
"""

import logging
import threading

from csi_plugin.attachment.programs import ProgramFailed, run
from csi_plugin.node import mounts
from csi_plugin.node.context import NodeContext, inflight_key
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol.errors import RpcError

LOG = logging.getLogger(__name__)

_SECONDS = 600.0
"""For one filesystem; what it has not come to then is for the next time."""


class Trimming:
    """A thread of its own, which trims one staged filesystem after the other."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._unsupported: set[str] = set()
        """Volumes that said that they cannot, which is told once."""

    def start(self) -> None:
        """Start trimming, unless the interval is 0."""
        if self._context.configuration.trim_interval_hours:
            threading.Thread(target=self._run, name="trimming", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._context.configuration.trim_interval_hours * 3600):
            self.trim_all()

    def trim_all(self) -> None:
        """Trim what is staged as a filesystem to write to. What is being staged or unstaged is left out."""
        states = [state for state in self._context.states.all() if _is_writable(state)]
        self._unsupported.intersection_update(state.volume_id for state in states)
        for state in states:
            if self._stopping.is_set():
                return
            if state.volume_id not in self._unsupported:
                self._trim(state)

    def _trim(self, state: VolumeState) -> None:
        try:
            with self._context.inflight.hold(inflight_key(state.volume_id)):
                if mounts.at(state.staging_path) is not None:
                    run("fstrim", state.staging_path, timeout=_SECONDS)
        except RpcError:
            return
        except ProgramFailed as error:
            if "not supported" in str(error):
                self._unsupported.add(state.volume_id)
            LOG.info("volume %s is not trimmed: %s", state.volume_id, error)


def _is_writable(state: VolumeState) -> bool:
    return state.staged and state.access_type == "mount" and not state.read_only
