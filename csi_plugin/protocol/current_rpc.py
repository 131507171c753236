"""The RPC that a thread works for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

WITHOUT_DEADLINE_SECONDS = 10.0
"""How long the RPC of a caller without a deadline waits for others that are in its way."""
_YEAR = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """An RPC: its method's name, the id under which it is logged, and when its caller gives up (time.monotonic)."""

    method: str
    request_id: str
    deadline: float | None


_current: ContextVar[Rpc | None] = ContextVar("rpc", default=None)


@contextmanager
def enter(method: str, *, request_id: str, time_remaining: float | None) -> Iterator[None]:
    """This thread works for an RPC for the length of a block; ``time_remaining``: of grpc.ServicerContext."""
    has_deadline = time_remaining is not None and time_remaining < _YEAR  # gRPC says centuries for none
    deadline = time.monotonic() + time_remaining if has_deadline and time_remaining is not None else None
    token = _current.set(Rpc(method=method, request_id=request_id, deadline=deadline))
    try:
        yield
    finally:
        _current.reset(token)


def get() -> Rpc | None:
    """The RPC that this thread works for; None for work of its own accord."""
    return _current.get()


def time_to_wait() -> float | None:
    """Seconds that the RPC of this thread may wait for others; None for as long as it takes, without a deadline."""
    rpc = _current.get()
    return None if rpc is None or rpc.deadline is None else leave_time_to_answer(rpc.deadline - time.monotonic())


def time_to_queue() -> float:
    """Seconds that the RPC of this thread may wait for others that are in its way; 0 for work of its own accord."""
    seconds = time_to_wait()
    if seconds is None:
        return 0.0 if _current.get() is None else WITHOUT_DEADLINE_SECONDS
    return seconds


def leave_time_to_answer(time_remaining: float) -> float:
    """How many of the seconds that are left may be waited for others, so that the caller has an answer in time."""
    return max(0.0, time_remaining - min(1.0, time_remaining / 10))
