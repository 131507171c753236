"""Whether the metadata store can serve, for probes, which give an answer a second."""

import threading
import time
from concurrent.futures import Future, TimeoutError

from csi_plugin.persistence.base import PersistenceError, RecordStore

_SECONDS = 0.8
"""A probe's second, less what its answer needs on the way."""


class StoreHealth:
    """Asks the store in a thread: one that hangs keeps nobody who asks, and is not asked by others meanwhile."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._answer: Future[None] | None = None
        self._asked_at = 0.0

    def check(self) -> None:
        """Raises PersistenceError when the store cannot serve, or does not say so within a second."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer, self._asked_at = Future(), time.monotonic()
                threading.Thread(target=self._ask, args=[self._answer], name="store health", daemon=True).start()
            answer, asked_at = self._answer, self._asked_at
        try:
            answer.result(_SECONDS)
        except TimeoutError:
            raise PersistenceError(f"it has not answered for {time.monotonic() - asked_at:.1f} s") from None

    def _ask(self, answer: Future[None]) -> None:
        try:
            self._store.health()
        except Exception as error:  # noqa: BLE001 - it is the asker's
            answer.set_exception(error)
        else:
            answer.set_result(None)
