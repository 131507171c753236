"""How long to wait before the next attempt at something that keeps failing."""


class Backoff:
    """Pauses that double with every attempt. One for each thing that is attempted; not thread-safe."""

    def __init__(self, first_seconds: float, last_seconds: float) -> None:
        """``first_seconds``: the first pause; ``last_seconds``: the longest."""
        self._first = first_seconds
        self._last = last_seconds
        self._next = first_seconds

    def next_pause(self) -> float:
        """Seconds to wait after an attempt that failed."""
        pause = self._next
        self._next = min(pause * 2, self._last)
        return pause

    def reset(self) -> None:
        """The attempt succeeded: begin with the first pause again."""
        self._next = self._first
