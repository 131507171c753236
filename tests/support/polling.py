"""Waiting for what nobody tells about."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], state: Callable[[], object], timeout: float = 30) -> None:
    """Wait for a condition that nobody tells about; ``state`` is shown when it does not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not so after {timeout} s: {state()}"
        time.sleep(0.05)
