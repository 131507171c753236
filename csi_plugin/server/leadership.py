"""One active controller per installation: the active one holds a lease, others wait for it.

No lease can fence a driver call that an array has received, so a holder that cannot renew in time begins no further
driver call and no further write, and its process ends before another one may lead: by itself, and if it is too slow for
that, or stands still, by the kernel.
"""

import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from csi_plugin.persistence.base import LeadershipLost, PersistenceError
from csi_plugin.persistence.leases import LeaseTerm
from csi_plugin.server.process_deadline import ProcessDeadline

LOG = logging.getLogger(__name__)

LEASE_NAME = "controller"
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_LAST_PART = 0.1
"""Of a lease: nothing begins in it any more, and who has not renewed the lease until then ends."""


class Leadership(Protocol):
    """A way to be the only active controller."""

    def acquire(self, stop: threading.Event) -> bool:
        """Wait until this process is the active one; False when ``stop`` was set first."""

    def check(self) -> None:
        """Raise LeadershipLost unless this process is surely still the active one. Cheap."""

    def term(self) -> LeaseTerm:
        """The term that acquire() has got."""

    def lose(self, reason: str) -> None:
        """Told by who has found that another controller is active."""

    def release(self) -> None:
        """Let others take over at once. Repeatable."""


class FileLeadership:
    """A lock on a file, for metadata that only processes of one host can share; it ends with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, stop: threading.Event) -> bool:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                LOG.debug("another controller holds %s", self._path)
            else:
                self._file = file
                return True
            if stop.wait(_POLL_SECONDS):
                os.close(file)
                return False

    def check(self) -> None:
        """A lock on a file cannot be lost while the process lives."""

    def term(self) -> LeaseTerm:
        """The file counts none: whoever held the lock is dead."""
        return LeaseTerm()

    def lose(self, reason: str) -> None:
        """Nobody can have found another controller."""

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def identity(self) -> str:
        """Who holds the lock, as others on any host would say it; the same for every process that comes to hold it."""
        assert self._file is not None
        file = os.fstat(self._file)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{file.st_dev:x}:{file.st_ino:x}"


class Lease(Protocol):
    """What RecordStore and DatabaseLease say of leases."""

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool: ...

    def lease_term(self, name: str) -> LeaseTerm: ...

    def release_lease(self, name: str, *, holder: str) -> None: ...


class LeaseLeadership:
    """A lease in the metadata store, renewed in the background.

    A process that has died leaves a lease that runs on. Its successor on the same host need not wait for the end: it
    has got the lock on the file that the lease names as its holder, so nobody else is alive to use it.
    """

    def __init__(self, lease: Lease, *, lock: FileLeadership, seconds: float, on_lost: Callable[[str], None]) -> None:
        """``on_lost`` is called, with the reason, from any thread when the lease is lost. It has to end the process."""
        self._lease = lease
        self._lock = lock
        self._seconds = seconds
        self._on_lost = on_lost
        self._holder = ""
        self._valid_until = self._renew_at = 0.0
        self._deadline = ProcessDeadline()
        self._released = threading.Event()

    def acquire(self, stop: threading.Event) -> bool:
        if not self._lock.acquire(stop):
            return False
        self._holder = self._lock.identity()
        while not stop.is_set():
            try:
                if self._renew():
                    for work in (self._keep, self._watch):
                        threading.Thread(target=work, name="lease", daemon=True).start()
                    return True
                LOG.debug("another controller holds the lease")
            except PersistenceError as error:
                LOG.warning("cannot read the lease: %s", error)
            stop.wait(_POLL_SECONDS)
        return False

    def check(self) -> None:
        if _now() >= self._ends_at():
            raise LeadershipLost("this controller's lease has expired; another one may be active")

    def term(self) -> LeaseTerm:
        return replace(self._lease.lease_term(LEASE_NAME), holder=self._holder)

    def lose(self, reason: str) -> None:
        self._valid_until = 0.0
        if not self._released.is_set():
            self._on_lost(reason)

    def release(self) -> None:
        self._released.set()
        self._valid_until = 0.0
        try:
            self._lease.release_lease(LEASE_NAME, holder=self._holder)
        except PersistenceError as error:
            LOG.info("could not release the lease; it will expire: %s", error)
        self._deadline.cancel()
        self._lock.release()

    def _renew(self) -> bool:
        began = _now()
        if not self._lease.acquire_lease(LEASE_NAME, holder=self._holder, seconds=self._seconds):
            return False
        # Counted from before the write: the successor's clock starts later than that.
        valid_until = began + self._seconds
        if (left := valid_until - _now()) <= 0 or self._released.is_set():
            return not self._released.is_set() and self._renew()
        self._deadline.put_off(left)
        self._valid_until = valid_until
        # Not counted from the answer: one that takes a third of the lease makes renewals no rarer.
        self._renew_at = began + self._seconds / 3
        return True

    def _keep(self) -> None:
        while not self._released.wait(max(0.0, self._renew_at - _now())):
            try:
                if not self._renew():
                    self.lose("another controller has taken over")
                    return
            except PersistenceError as error:
                LOG.warning("could not renew the lease, retrying: %s", error)
                self._renew_at = _now() + _RETRY_SECONDS

    def _watch(self) -> None:
        """End in time, also while a renewal hangs in a store that does not answer."""
        while not self._released.wait(max(0.0, self._ends_at() - _now())):
            if _now() >= self._ends_at():
                self.lose(f"the lease could not be renewed within its {self._seconds:g} s")
                return

    def _ends_at(self) -> float:
        return self._valid_until - _LAST_PART * self._seconds


def _now() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
