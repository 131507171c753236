"""The term of an active controller, and what keeps its writes within it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from csi_plugin.instrumentation import tracing
from csi_plugin.persistence.errors import LeadershipLost

W = TypeVar("W", bound=Callable[..., Any])


@dataclass(frozen=True)
class LeaseTerm:
    """One process's time as the holder of a lease."""

    epoch: int = 0
    """Counts the terms of the lease, from 1; 0 where the store does not count them."""
    predecessor: str = ""
    """The other holder whose lease ran out before; empty when it was released, or held under the same name: then
    nobody is alive who could still act for it."""
    holder: str = ""
    """Whose term it is; empty where nobody else could have held the lease."""


@dataclass(frozen=True)
class Fence:
    """Keeps the writes of a controller within its leadership."""

    lease: str
    epoch: int
    """Of its term; a store that finds a later one writes nothing."""
    check: Callable[[], None]
    """Cheap; raises LeadershipLost when the lease may have run out."""
    overtaken: Callable[[str], None]
    """Told, with the reason, by a store that has found a later term."""

    def refuse(self, reason: str) -> NoReturn:
        """For a store that has found a later term. Raises LeadershipLost."""
        self.overtaken(reason)
        raise LeadershipLost(reason)


def fenced_write(write: W) -> W:
    """Decorator of a store's create(), update() and delete(): each call is a span, and none begins without leadership
    where it is needed."""

    @functools.wraps(write)
    def call(store: Any, record: Any) -> Any:
        if store.fence is not None:
            store.fence.check()
        with tracing.span(f"metadata.{write.__name__}", kind=record.KIND, id=record.id):
            return write(store, record)

    return call  # type: ignore[return-value]
