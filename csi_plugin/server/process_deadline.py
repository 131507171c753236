"""The end that the kernel puts to this process at a given time, whatever its threads do then.

A thread that watches the time runs only when Python lets it, and in a process that stands still not at all: on its way
again, that process would do what it had begun. A timer of POSIX whose signal is SIGKILL ends also a stopped process.
"""

import ctypes
import logging
import signal
import threading
import time

LOG = logging.getLogger(__name__)

_ABSOLUTE = 1  # TIMER_ABSTIME
_BY_SIGNAL = 0  # SIGEV_SIGNAL
_CLOCKS = (time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC)
"""The first goes on while the machine sleeps; a few kernels and sandboxes have no timers of it."""


class _SignalEvent(ctypes.Structure):
    """struct sigevent, which has 64 bytes on Linux."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * (64 - ctypes.sizeof(ctypes.c_void_p) - 2 * ctypes.sizeof(ctypes.c_int))),
    )


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerValue(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (("interval", _Time), ("value", _Time))


class ProcessDeadline:
    """A timer that kills this process; it is not passed on to processes that this one starts. Thread-safe.

    Where the C library or the kernel has no such timers, it does nothing but say so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timer: ctypes.c_void_p | None = None
        self._clock = time.CLOCK_BOOTTIME
        self._has_failed = False

    def put_off(self, seconds: float) -> None:
        """Let it end in so many seconds, and not before."""
        with self._lock:
            if self._timer is None and not self._has_failed:
                self._timer = self._new_timer()
            if self._timer is not None:
                self._set(time.clock_gettime(self._clock) + seconds)

    def cancel(self) -> None:
        """Let the process live on. Repeatable."""
        with self._lock:
            if self._timer is not None:
                self._set(0.0)

    def _new_timer(self) -> ctypes.c_void_p | None:
        event = _SignalEvent(signal=signal.SIGKILL, notify=_BY_SIGNAL)
        for clock in _CLOCKS:
            timer = ctypes.c_void_p()
            if _call("timer_create", ctypes.c_int(clock), ctypes.byref(event), ctypes.byref(timer)):
                self._clock = clock
                return timer
        self._has_failed = True
        LOG.warning("this system has no timers that end a process: a controller that stood still may go on a moment")
        return None

    def _set(self, at: float) -> None:
        value = _TimerValue(value=_Time(int(at), int(at % 1 * 1e9)))
        if not _call("timer_settime", self._timer, ctypes.c_int(_ABSOLUTE), ctypes.byref(value), None):
            raise OSError("the kernel's timer cannot be set")


def _call(name: str, *arguments: object) -> bool:
    """Whether a function of the C library is there, and says that it has done it."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return False
    return bool(function(*arguments) == 0)
