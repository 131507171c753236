"""What Cinder's RBD driver does with the pool's trash: it moves images there that it cannot remove at once, and forgets
them; or, with enable_deferred_deletion, purges all of it, whoever put it there.

Another installation, or OpenStack, may have its volumes in the same pool, and their names do not tell whose they are.
So what the driver itself moves there is remembered, in the records too, and nothing else is ever purged.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from oslo_service import loopingcall

from csi_plugin.persistence.base import PersistenceError, RecordExists
from csi_plugin.persistence.records import KeyValueRecord
from csi_plugin.storage.library_state import STATE

LOG = logging.getLogger(__name__)

PREFIX = "cinderbox/trash/"
"""Of the key-values: then the backend, and the name of an image that the driver has moved to its pool's trash."""


def prepare(driver: Any, *, backend: str) -> None:
    """Before a driver's start: it remembers what it moves to the trash, and purges that alone. Does nothing for other
    drivers."""
    if not _is_rbd(driver):
        return
    trash = _OwnTrash(backend)
    new_proxy = driver.RBDProxy
    driver._own_trash = trash
    driver.RBDProxy = lambda: _NotingProxy(new_proxy(), trash.note)
    driver._trash_purge = lambda: _purge_expired(driver, trash)


def purge_deleted(driver: Any, volume: Any) -> None:
    """After a volume's deletion: remove it from the trash, with those that could not go before. Never raises, and does
    nothing for other drivers."""
    if _is_rbd(driver):
        # By its name, too: an earlier try may have ended after the move, and before that was recorded.
        driver._own_trash.purge(driver, also=volume.name)


def _purge_expired(driver: Any, trash: "_OwnTrash") -> None:
    """What the driver does from time to time, from its start on, until another has replaced it."""
    if trash.is_retired(driver):
        raise loopingcall.LoopingCallDone
    if STATE.only_looks:
        return
    try:
        if STATE.before_driver_call is not None:
            STATE.before_driver_call()
    except Exception as error:  # noqa: BLE001
        # This process does not lead any more, whatever the reason; an error would end the repetition.
        LOG.info("the trash is not purged: %s", error)
        return
    trash.purge(driver)
    trash.tell_of_others()


class _NotingProxy:
    """Stands in for librbd's calls, and notes the names of what is moved to the trash."""

    def __init__(self, proxy: Any, note: Callable[[str], None]) -> None:
        self._proxy = proxy
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proxy, name)

    def trash_move(self, ioctx: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        answer = self._proxy.trash_move(ioctx, name, *args, **kwargs)
        self._note(name)
        return answer


class _OwnTrash:
    """What a backend's driver has moved to the trash, and has not been seen to be gone from there. Thread-safe."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._is_read = False
        self._has_served = False
        self._others: dict[str, str] = {}
        self._told: set[str] = set()

    def is_retired(self, driver: Any) -> bool:
        """Whether the driver has served for its backend, and does not any more."""
        serving = STATE.backends.get(self._backend)
        is_serving = serving is not None and serving.driver is driver
        self._has_served = self._has_served or is_serving
        return self._has_served and not is_serving

    def note(self, name: str) -> None:
        """Remember that an image has been moved. Never raises: the deletion that it is a part of has been done."""
        with self._lock:
            self._names.add(name)
        try:
            STATE.store.create(KeyValueRecord(id=self._key(name), value=datetime.now(UTC).isoformat()))
        except RecordExists:
            return
        except PersistenceError as error:
            LOG.warning("%s is purged from the trash only if this process lives to do it: %s", name, error)

    def purge(self, driver: Any, *, also: str | None = None) -> None:
        """Remove from the trash what the driver has moved there, ``also`` an image of that name. Never raises."""
        from cinder.volume.drivers import rbd

        there, others = set(), {}
        try:
            before = self._read()
            wanted = before | ({also} if also else set())
            with rbd.RADOSClient(driver) as client:
                for entry in driver.RBDProxy().trash_list(client.ioctx):
                    name = str(entry["name"])
                    if name not in wanted:
                        others[str(entry["id"])] = name
                    elif not _remove(driver, client, entry):
                        there.add(name)
        except Exception as error:  # noqa: BLE001
            # The deletion that comes before this has ended well, and the next one looks again.
            LOG.warning("the trash cannot be purged: %s", error)
            return
        for name in there - before:
            self.note(name)
        for name in before - there:
            self._forget(name)
        self._others = others

    def tell_of_others(self) -> None:
        """Log once of each image that stays because it is not known to be the driver's."""
        names = [name for key, name in self._others.items() if key not in self._told]
        self._told = set(self._others)
        if names:
            LOG.warning(
                "backend %s leaves images in its pool's trash that it has not put there, %d more than before: %s; "
                "where they are nobody's, rbd trash rm removes them",
                self._backend,
                len(names),
                ", ".join(sorted(names)[:5]),
            )

    def _read(self) -> set[str]:
        """The names, with those that an earlier process has recorded. Raises PersistenceError."""
        if not self._is_read:
            prefix = self._key("")
            ids = [record.id for record in STATE.store.find(KeyValueRecord)]
            with self._lock:
                self._names.update(name.removeprefix(prefix) for name in ids if name.startswith(prefix))
            self._is_read = True
        with self._lock:
            return set(self._names)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._names.discard(name)
        try:
            STATE.store.delete(KeyValueRecord(id=self._key(name)))
        except PersistenceError as error:
            LOG.info("that %s was purged is recorded later: %s", name, error)

    def _key(self, name: str) -> str:
        return f"{PREFIX}{self._backend}/{name}"


def _remove(driver: Any, client: Any, entry: Any) -> bool:
    try:
        driver.RBDProxy().trash_remove(client.ioctx, entry["id"])
    except Exception as error:  # noqa: BLE001
        # Its delay has not passed, or something still needs it.
        LOG.info("%s stays in the trash: %s", entry["name"], error)
        return False
    LOG.info("%s is gone from the trash", entry["name"])
    return True


def _is_rbd(driver: Any) -> bool:
    # Asked of the class: some drivers answer for any attribute of an instance, with an error of their own.
    return hasattr(driver.__class__, "_trash_purge")
