"""Calls to a filesystem whose storage may be away: the kernel lets them wait for as long as that takes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, cast

from csi_plugin.protocol.errors import unavailable

T = TypeVar("T")

_SECONDS = 10.0
"""Longer than any storage takes that is there; shorter than a CO waits."""


class TimedCalls:
    """Each has a limit, and a thread that waits on; the same call again waits for that thread, too. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Future[object]] = {}

    def run(self, volume_id: str, what: str, call: Callable[[], T]) -> T:
        """What ``call`` returns or raises; ``what``: it tells of the volume. Raises UNAVAILABLE when it takes long."""
        key = f"{what} of volume {volume_id}"
        with self._lock:
            answer = self._running.get(key)
            if answer is None:
                answer = self._running[key] = Future()
                threading.Thread(target=self._run, args=(key, answer, call), name="timed-call", daemon=True).start()
        try:
            return cast(T, answer.result(_SECONDS))
        except TimeoutError:
            if answer.done():
                raise  # the call's own
            raise unavailable(f"the {key} is not known: its storage does not answer for {_SECONDS:g} s") from None

    def _run(self, key: str, answer: "Future[object]", call: Callable[[], object]) -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            self._end(key)
            answer.set_exception(error)
        else:
            self._end(key)
            answer.set_result(result)

    def _end(self, key: str) -> None:
        with self._lock:
            del self._running[key]
