"""Where each thread is: the steps that it is in, for people who ask what an operation is waiting for.

A step costs two microseconds, so that all of them are noted all of the time.
"""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

_threads: "dict[int, list[Step]]" = {}
"""The steps of every thread that is in one, by its identifier, outermost first. Only the thread itself changes its own;
others read, which the interpreter makes safe."""


class Step:
    """The thread is in this step for the length of a ``with`` block. ``began`` is time.monotonic()."""

    __slots__ = ("attributes", "began", "name")

    def __init__(self, name: str, attributes: Mapping[str, str]) -> None:
        """``attributes`` are shown to people: never an argument of a driver or a program."""
        self.name = name
        self.attributes = attributes
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        _threads.setdefault(threading.get_ident(), []).append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        own = _threads[threading.get_ident()]
        own.pop()
        if not own:
            del _threads[threading.get_ident()]


def of_thread(identifier: int) -> list[Step]:
    """The steps that a thread (``Thread.ident``) is in, outermost first; none for one that is not there any more."""
    return list(_threads.get(identifier, ()))
