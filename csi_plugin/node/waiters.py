"""Questions to a filesystem, whose storage may be away: the kernel lets who asks wait, for as long as that takes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, cast

from csi_plugin.protocol.errors import unavailable

T = TypeVar("T")

_SECONDS = 10.0
"""Longer than any storage takes that is there; shorter than a CO waits."""


class Waiters:
    """One thread for each volume that does not answer, which later calls wait for, too. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, Future[object]] = {}

    def ask(self, volume_id: str, question: str, ask: Callable[[], T]) -> T:
        """What ``ask`` returns or raises; ``question``: what of the volume. Raises UNAVAILABLE when it takes long."""
        key = f"{question} of volume {volume_id}"
        with self._lock:
            answer = self._asked.get(key)
            if answer is None:
                answer = self._asked[key] = Future()
                threading.Thread(target=self._run, args=(key, answer, ask), name="waiter", daemon=True).start()
        try:
            return cast(T, answer.result(_SECONDS))
        except TimeoutError:
            if answer.done():
                raise  # the question's own
            raise unavailable(f"the {key} is not known: its storage does not answer for {_SECONDS:g} s") from None

    def _run(self, key: str, answer: "Future[object]", ask: Callable[[], object]) -> None:
        try:
            result = ask()
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked
            self._end(key)
            answer.set_exception(error)
        else:
            self._end(key)
            answer.set_result(result)

    def _end(self, key: str) -> None:
        with self._lock:
            del self._asked[key]
