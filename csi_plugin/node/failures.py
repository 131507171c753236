"""The last failures to stage and publish volumes on this node, for their health. Kept in memory: a CO tries again."""

import threading
from dataclasses import dataclass
from typing import Literal

import grpc

from csi_plugin.error_text import error_text
from csi_plugin.protocol.errors import RpcError

_MOST = 1000
"""Volumes of which failures are kept; the oldest are forgotten first."""

Verb = Literal["stage", "publish"]

_ALWAYS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.ABORTED)
_OF_THE_REQUEST: dict[Verb, tuple[grpc.StatusCode, ...]] = {
    "stage": _ALWAYS,
    "publish": (*_ALWAYS, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION),
}
"""What is wrong with a request, or in its way for a moment, says nothing of the volume."""


@dataclass(frozen=True)
class Failure:
    verb: Verb
    message: str


class Failures:
    """The last failure of each verb by volume. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_volume: dict[str, dict[Verb, Failure]] = {}

    def note(self, volume_id: str, verb: Verb, error: RpcError) -> None:
        if error.code in _OF_THE_REQUEST[verb]:
            return
        with self._lock:
            failures = self._by_volume.pop(volume_id, {})
            self._by_volume[volume_id] = failures | {verb: Failure(verb, error_text(error))}
            while len(self._by_volume) > _MOST:
                del self._by_volume[next(iter(self._by_volume))]

    def forget(self, volume_id: str, *verbs: Verb) -> None:
        """After success, or when the volume is taken away."""
        with self._lock:
            failures = self._by_volume.get(volume_id, {})
            for verb in verbs:
                failures.pop(verb, None)
            if not failures:
                self._by_volume.pop(volume_id, None)

    def of(self, volume_id: str) -> list[Failure]:
        with self._lock:
            return list(self._by_volume.get(volume_id, {}).values())
