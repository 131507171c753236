"""Connections of staged volumes that are lost for good: logged out, given up by the kernel, or torn down by hand.

An initiator connects again by itself while it keeps a session. Where it does not, a multipath map goes on without that
path until nobody is left, and a raw device is missing: the path is added, and what is there is left alone. A
filesystem whose only device has gone cannot come back before it is unmounted, so nothing is done for it:
NodeGetVolumeHealth tells. What waits for paths of a volume that was taken from this node fails.
"""

import logging
import threading
import time
from typing import Any

from grpc import StatusCode

from csi_plugin.attachment.host_tables import device_identity, is_lasting
from csi_plugin.node import taken_volumes
from csi_plugin.node.attachment_process import Interruption
from csi_plugin.node.context import NodeContext, inflight_key
from csi_plugin.node.staged_volumes import has_own_device, has_own_devices, is_over_paths, present_paths
from csi_plugin.node.volume_state import VolumeState
from csi_plugin.protocol.errors import RpcError, failed_precondition

LOG = logging.getLogger(__name__)

_MOST_DOUBLINGS = 5
"""What is tried in vain is tried less often: with the default interval, every half an hour in the end."""


class Reconnection:
    """Looks at the staged volumes again and again, in a thread of its own, and connects what is lost."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._tries: dict[str, tuple[int, float]] = {}
        """By volume that is lost: how often that was tried, and when it is to be tried again."""
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start looking, unless the interval is 0."""
        if self._context.configuration.reconnect_interval_seconds:
            threading.Thread(target=self._run, name="reconnection", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._context.configuration.reconnect_interval_seconds):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Connect what is lost, unless it was tried in vain a while ago. ``now``: seconds of the caller's clock."""
        states = list(self._context.states.all())
        own = {state.volume_id: is_own for state, is_own in has_own_devices(filter(_is_raw, states))}
        waiting = taken_volumes.waiting(state for state in states if state.staged)
        lost = [
            state.volume_id
            for state in states
            if _lacks_paths(state) or own.get(state.volume_id) is False or state.volume_id in waiting
        ]
        self._tries = {volume_id: tries for volume_id, tries in self._tries.items() if volume_id in lost}
        for volume_id in lost:
            tries, due = self._tries.get(volume_id, (0, now))
            if now >= due:
                self._attempt(volume_id)
                delay = self._context.configuration.reconnect_interval_seconds * 2 ** min(tries, _MOST_DOUBLINGS)
                self._tries[volume_id] = tries + 1, now + delay

    def _attempt(self, volume_id: str) -> None:
        interruption = Interruption()
        try:
            # Nobody who stages or unstages the volume has to wait for what may take long, and be in vain.
            with self._context.inflight.hold(inflight_key(volume_id), give_way=interruption.call_off):
                self._reconnect(volume_id, interruption)
        except RpcError as error:
            # ABORTED: somebody stages or unstages it, which may be why paths are missing.
            level = logging.DEBUG if error.code is StatusCode.ABORTED else logging.WARNING
            LOG.log(level, "volume %s lacks paths to its storage: %s", volume_id, error)
        except Exception as error:
            # Whatever it was, the other volumes and the next look must not suffer.
            LOG.warning("volume %s lacks paths to its storage: %s", volume_id, error)
            LOG.debug("volume %s lacks paths", volume_id, exc_info=True)

    def _reconnect(self, volume_id: str, interruption: Interruption) -> None:
        state = self._context.states.load(volume_id)
        if state is None or not state.staged:
            return
        if taken_volumes.waiting([state]) and taken_volumes.let_fail(self._context, state):
            return
        if not (_lacks_paths(state) or (_is_raw(state) and not has_own_device(state))):
            return
        before = present_paths(state)
        device_info = self._context.attachment_process.run(
            "heal",
            interruption=interruption,
            sealed=state.sealed_connection,
            publication=self._context.publication(volume_id),
            read_only=state.read_only,
            attached_path=str((state.device_info or {})["path"]),
            attached_identity=state.attached_identity,
        )
        if device_info is not None:
            _take_device(state, device_info)
        after = present_paths(state)
        state.path_count = max(state.path_count, after)
        self._context.states.save(state)
        LOG.info("volume %s had %d of %d paths, and has %d", volume_id, before, state.path_count, after)


def _take_device(state: VolumeState, device_info: dict[str, Any]) -> None:
    """A raw volume's device has come back, perhaps under another name. FAILED_PRECONDITION for another volume's."""
    path = str(device_info["path"])
    identity = device_identity(path)
    if state.access_type != "block" or state.encrypted:
        return
    if is_lasting(state.device_identity) and identity != state.device_identity:
        raise failed_precondition(f"{path} is {identity}, and the volume's device was {state.device_identity}")
    state.device_info = device_info
    state.device_path = path
    state.device_identity = state.attached_identity = identity


def _lacks_paths(state: VolumeState) -> bool:
    return state.staged and is_over_paths(state) and present_paths(state) < state.path_count


def _is_raw(state: VolumeState) -> bool:
    """Whether a volume's device, where that has gone, can come back under whoever uses it."""
    is_attached = state.staged and state.device_info is not None
    return is_attached and state.access_type == "block" and not state.encrypted and not is_over_paths(state)
