"""One active controller per installation: the active one holds a lease, others wait for it.

No lease can fence a driver call that an array has received, so a holder that cannot renew in time starts no further
driver call and ends the process.
"""

import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from csi_plugin.persistence.base import PersistenceError

LOG = logging.getLogger(__name__)

LEASE_NAME = "controller"
_POLL_SECONDS = 1.0


class LeadershipLost(Exception):
    """This process is no longer the active controller. gRPC: UNAVAILABLE."""


class Leadership(Protocol):
    """A way to be the only active controller."""

    def acquire(self, stop: threading.Event) -> bool:
        """Wait until this process is the active one; False when ``stop`` was set first."""

    def check(self) -> None:
        """Raise LeadershipLost unless this process is surely still the active one. Cheap."""

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

    def release_lease(self, name: str, *, holder: str) -> None: ...


class LeaseLeadership:
    """A lease in the metadata store, renewed in the background.

    A process that has died leaves a lease that runs on. Its successor on the same host need not wait for the end: it
    has got the lock on the file that the lease names as its holder, so nobody else is alive to use it.
    """

    def __init__(self, lease: Lease, *, lock: FileLeadership, seconds: float, on_lost: Callable[[str], None]) -> None:
        """``on_lost`` is called, with the reason, from the renewing thread when the lease is lost."""
        self._lease = lease
        self._lock = lock
        self._seconds = seconds
        self._on_lost = on_lost
        self._holder = ""
        self._valid_until = 0.0
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
        if _now() >= self._valid_until:
            raise LeadershipLost("this controller's lease has expired; another one may be active")

    def release(self) -> None:
        self._released.set()
        self._valid_until = 0.0
        try:
            self._lease.release_lease(LEASE_NAME, holder=self._holder)
        except PersistenceError as error:
            LOG.info("could not release the lease; it will expire: %s", error)
        self._lock.release()

    def _renew(self) -> bool:
        began = _now()
        if not self._lease.acquire_lease(LEASE_NAME, holder=self._holder, seconds=self._seconds):
            return False
        # Counted from before the write: the store's clock started later than that.
        self._valid_until = began + self._seconds
        return True

    def _keep(self) -> None:
        while not self._released.wait(self._seconds / 3):
            reason = "another controller has taken over"
            try:
                if self._renew():
                    continue
            except PersistenceError as error:
                if _now() < self._valid_until:
                    LOG.warning("could not renew the lease, retrying: %s", error)
                    continue
                reason = f"could not renew the lease: {error}"
            if not self._released.is_set():
                self._on_lost(reason)
            return

    def _watch(self) -> None:
        """End where a renewal hangs, in a store that does not answer. No driver call begins from the lease's end on; to
        wait as long again spares a process that is only slow."""
        while not self._released.wait(max(0.0, self._give_up_at() - _now())):
            if _now() >= self._give_up_at() and not self._released.is_set():
                self._on_lost("the lease has ended, and the metadata store does not answer")
                return

    def _give_up_at(self) -> float:
        return self._valid_until + self._seconds


def _now() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
