"""All resources of one kind: listed, and then followed by a watch."""

import logging
import random
import threading
import time
from collections.abc import Callable

from csi_plugin.persistence.crd.api import ResourceAPI, Watch
from csi_plugin.persistence.records import JSON
from csi_plugin.protocol.backoff import Backoff

LOG = logging.getLogger(__name__)

_FIRST_PAUSE, _LAST_PAUSE = 0.2, 5.0
_SHORT_SECONDS = 1.0
"""A watch is open for minutes."""
_END_SECONDS = 10.0
"""What a call that is being made can take at most to find out that it is of no use any more, or that nobody answers."""


class ListWatch:
    """Tells of every resource of a kind, from a thread of its own, until close().

    The callbacks are never called at the same time.
    """

    def __init__(
        self,
        api: ResourceAPI,
        plural: str,
        *,
        on_list: Callable[[list[JSON], int, int], None],
        on_put: Callable[[JSON], None],
        on_gone: Callable[[JSON], None],
        on_current: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_list(resources, version, heard)``: all that there are at a resourceVersion, and the last version that
        was heard of before (0: none); ``on_put(resource)``: one came or changed; ``on_gone(resource)``: one went;
        ``on_current()``: silent_seconds() is 0 again.
        """
        self._api = api
        self._plural = plural
        self._on_list = on_list
        self._on_put = on_put
        self._on_gone = on_gone
        self._on_current = on_current
        self._heard = 0
        self._has_to_list = True
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unreachable_since: float | None = None
        self._backoff = Backoff(_FIRST_PAUSE, _LAST_PAUSE)
        self.list_began = 0.0
        """On the monotonic clock; for on_list(): what was done before then, a list tells of."""

    def start(self) -> None:
        """List the kind, and follow it from there. Raises PersistenceError when it cannot be listed."""
        self._list()
        self._thread = threading.Thread(target=self._follow, name=f"watch {self._plural}", daemon=True)
        self._thread.start()

    def silent_seconds(self) -> float:
        """How long the API server has not been reached; 0 when all is well."""
        since = self._unreachable_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        self._stopping.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.close()
        if self._thread is not None:
            # A thread that is inside of a call when the process ends makes it abort.
            self._thread.join(_END_SECONDS)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                reason = self._watch_once()
            except Exception as error:  # noqa: BLE001
                # Whatever it was: who stopped following would know the past for ever.
                reason = str(error) or type(error).__name__
                self._unreachable_since = self._unreachable_since or time.monotonic()
            if not reason or self._stopping.is_set():
                continue
            # A watch that is taken up where it broke shows only later that its version is too old.
            self._has_to_list = True
            pause = self._backoff.next_pause()
            LOG.info("the watch of %s ended, retrying in %.1f s: %s", self._plural, pause, reason)
            self._stopping.wait(pause * random.uniform(0.5, 1.0))

    def _watch_once(self) -> str:
        """Follow one watch to its end; why that is not how one ends. Empty when it can be taken up where it ended."""
        if self._has_to_list:
            self._list()
        began = time.monotonic()
        watch = self._api.watch(self._plural, self._heard)
        with self._lock:
            self._watch = watch
        if self._stopping.is_set():
            watch.close()
        self._is_reached()
        is_empty = True
        for event in watch:
            resource = event["object"]
            if event["type"] == "DELETED":
                self._on_gone(resource)
            elif event["type"] != "BOOKMARK":
                self._on_put(resource)
            self._heard = int(resource["metadata"]["resourceVersion"])
            self._backoff.reset()
            is_empty = False
        # So ends one whose version is too old at a server that does not say so, and each where a proxy cuts it short.
        return "it brought nothing" if is_empty and time.monotonic() - began < _SHORT_SECONDS else ""

    def _list(self) -> None:
        self.list_began = time.monotonic()
        resources, version = self._api.list_all(self._plural)
        self._on_list(resources, version, self._heard)
        self._heard, self._has_to_list = version, False
        self._is_reached()

    def _is_reached(self) -> None:
        if self._unreachable_since is not None:
            self._unreachable_since = None
            self._on_current()
