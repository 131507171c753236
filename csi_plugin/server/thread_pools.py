"""The threads in which RPCs run: pools by kind, so that no kind keeps another waiting, and a bound for each method.

gRPC takes a thread for a call when the call's headers come, and keeps it until the answer: also while a repeat waits
for the running request, while a client that sent headers sends nothing more, and as long as a stream is open.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_PROBES = frozenset({"Probe", "Check"})
_LISTS = frozenset({"ListVolumes", "ListSnapshots", "ControllerListVolumeHealth"})
READS = frozenset(
    {
        "GetPluginInfo",
        "GetPluginCapabilities",
        "ValidateVolumeCapabilities",
        "GetSnapshot",
        "GetCapacity",
        "ControllerGetVolume",
        "ControllerGetCapabilities",
        "ControllerGetVolumeHealth",
        "GroupControllerGetCapabilities",
        "GetVolumeGroupSnapshot",
        "NodeGetCapabilities",
        "NodeGetInfo",
        "ListOperations",
    }
)
"""RPCs that never wait for storage."""


class MethodPool(ThreadPoolExecutor):
    """The calls of one method, in threads of a pool that methods share. Counts them, so that they can be bounded."""

    def __init__(self, pool: ThreadPoolExecutor, *, most: int) -> None:
        """``most``: calls that may run or wait for a thread at once."""
        super().__init__(max_workers=1)  # gRPC takes nothing but this class; a thread of its own is never started
        self.most = most
        self._pool = pool
        self._count_lock = threading.Lock()
        self._count = 0

    @property
    def is_full(self) -> bool:
        return self._count >= self.most

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future = self._pool.submit(fn, *args, **kwargs)
        with self._count_lock:
            self._count += 1
        future.add_done_callback(self._has_ended)
        return future

    def _has_ended(self, future: Future[Any]) -> None:
        with self._count_lock:
            self._count -= 1


class ThreadPools:
    """The pools of one server; their threads are started as they are needed. Thread-safe."""

    def __init__(self, *, workers: int) -> None:
        """``workers``: operations that may run or wait at once."""
        self.operations = ThreadPoolExecutor(workers, thread_name_prefix="rpc")
        self.refusals = ThreadPoolExecutor(2, thread_name_prefix="refuse")
        """For answering calls that are beyond a bound, which takes no time."""
        self._probes = ThreadPoolExecutor(4, thread_name_prefix="probe")
        self._lists = ThreadPoolExecutor(4, thread_name_prefix="list")
        self._reads = ThreadPoolExecutor(16, thread_name_prefix="read")
        self._streams = ThreadPoolExecutor(4, thread_name_prefix="stream")
        # One method's calls that wait leave threads for the others.
        self._most_operations = max(128, workers * 3 // 4)
        self._by_method: dict[str, MethodPool] = {}
        self._lock = threading.Lock()

    def of(self, method: str, *, is_stream: bool) -> MethodPool:
        """The pool for a method of that name."""
        with self._lock:
            if method not in self._by_method:
                self._by_method[method] = self._new(method, is_stream=is_stream)
            return self._by_method[method]

    def _new(self, method: str, *, is_stream: bool) -> MethodPool:
        if is_stream:
            return MethodPool(self._streams, most=4)
        if method in _PROBES:
            return MethodPool(self._probes, most=64)
        if method in _LISTS:
            return MethodPool(self._lists, most=32)
        if method in READS:
            return MethodPool(self._reads, most=256)
        return MethodPool(self.operations, most=self._most_operations)
