"""Waiting for another one's work to end, which is nobody's own time: who runs a task is told of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[bool], None]
_listeners: list[Listener] = []


def tell(listener: Listener) -> None:
    """Call ``listener`` with True when this process begins to wait, and with False when it goes on."""
    _listeners.append(listener)


@contextmanager
def waiting() -> Iterator[None]:
    """In the block, this process waits for others."""
    for listener in _listeners:
        listener(True)
    try:
        yield
    finally:
        for listener in _listeners:
            listener(False)
