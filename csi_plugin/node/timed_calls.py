"""Calls to a filesystem or device whose storage may be away: the kernel lets them wait for as long as that takes."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TypeVar, cast

from csi_plugin.protocol.errors import unavailable

T = TypeVar("T")

_SECONDS = 10.0
"""Longer than any storage takes that is there; shorter than a CO waits."""


@dataclass
class _Waiter:
    what: str
    started: float = field(default_factory=time.monotonic)
    answer: "Future[object]" = field(default_factory=Future)

    def seconds_left(self, deadline: float) -> float:
        """How long to wait for it: not at all where others have waited in vain."""
        now = time.monotonic()
        return 0.0 if now - self.started > _SECONDS else max(0.0, deadline - now)


class TimedCalls:
    """Each has a limit, and a thread that waits on: one for a volume, for which other calls wait. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, _Waiter] = {}
        self._here = threading.local()

    def run(self, volume_id: str, what: str, call: Callable[[], T], *, seconds: float | None = None) -> T:
        """What ``call`` returns or raises; ``what``: all that it depends on, in words; the same call at the same time
        is made once.

        Raises UNAVAILABLE after ``seconds`` (10), and at once for a volume that others have waited for so long.
        """
        if getattr(self._here, "volume_id", None) == volume_id:
            return call()  # a part of one
        deadline = time.monotonic() + (_SECONDS if seconds is None else seconds)
        while True:
            waiter = self._waiter(volume_id, what, call)
            done, _ = wait([waiter.answer], waiter.seconds_left(deadline))
            if not done:
                raise unavailable(
                    f"the {what} of volume {volume_id} is not known: its storage does not answer for "
                    f"{time.monotonic() - waiter.started:.0f} s"
                )
            if waiter.what == what:
                return cast(T, waiter.answer.result())

    def _waiter(self, volume_id: str, what: str, call: Callable[[], object]) -> _Waiter:
        with self._lock:
            waiter = self._waiters.get(volume_id)
            if waiter is None:
                waiter = self._waiters[volume_id] = _Waiter(what)
                threading.Thread(
                    target=self._run, args=(volume_id, waiter, call), name="timed-call", daemon=True
                ).start()
            return waiter

    def _run(self, volume_id: str, waiter: _Waiter, call: Callable[[], object]) -> None:
        self._here.volume_id = volume_id
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            self._end(volume_id)
            waiter.answer.set_exception(error)
        else:
            self._end(volume_id)
            waiter.answer.set_result(result)

    def _end(self, volume_id: str) -> None:
        with self._lock:
            del self._waiters[volume_id]


TIMED_CALLS = TimedCalls()
"""Of this process: whatever asks after a volume."""
