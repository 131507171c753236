"""Looks at what Kubernetes has beside our resources, again and again, in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from csi_plugin.persistence.base import PersistenceError

LOG = logging.getLogger(__name__)

_PAUSE_SECONDS = 30.0
_SHARE = 20
"""Lists that take long are made as seldom: at most this part of the time goes into them."""


class ClusterWatch:
    """One thread, from start() to stop()."""

    def __init__(self, looks: Sequence[Callable[[], None]]) -> None:
        """``looks`` may raise PersistenceError."""
        self._looks = looks
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if it has not begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cluster-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            began = time.monotonic()
            for look in self._looks:
                self._try(look)
            pause = max(_PAUSE_SECONDS, _SHARE * (time.monotonic() - began))

    def _try(self, look: Callable[[], None]) -> None:
        try:
            look()
        except PersistenceError as error:
            if not self._stopping.is_set():
                LOG.info("what Kubernetes has beside our resources is not known now: %s", error)
        except Exception:
            # A defect here must not end it for good.
            LOG.exception("what Kubernetes has beside our resources cannot be looked at")
