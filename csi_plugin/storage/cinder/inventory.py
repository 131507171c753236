"""Which volumes a backend's storage has, as its driver lists them: what was there and is no more is gone."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

from oslo_config import cfg

from csi_plugin.error_text import error_text
from csi_plugin.storage.cinder import driver_calls

LOG = logging.getLogger(__name__)

MAX_AGE = 600.0
"""Seconds after which the storage is listed again."""
_MIN_AGE = 10.0
"""Seconds between two lists for somebody who asks for one volume."""
_SHARE = 20
"""A list that takes long is made as seldom: at most this part of the time goes into it."""


class Inventory:
    """The last list of one driver's storage, which is read in the background: nobody waits for it. Thread-safe.

    A volume counts as gone when an earlier list had it: what a driver never lists, or lists under another name, is not
    missed. ``expected`` says, at the first list, the ids of what lists of earlier processes had.
    """

    def __init__(
        self,
        driver: Any,
        backend_id: str,
        slot: Callable[[], AbstractContextManager[None]],
        *,
        expected: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._driver = driver
        self._expected = expected
        self._backend_id = backend_id
        self._slot = slot
        self._lock = threading.Lock()
        self._listed: frozenset[str] = frozenset()
        self._gone: set[str] = set()
        self._listed_at = float("-inf")
        self._min_age = _MIN_AGE
        self._is_reading = False
        self._can_list = True

    def is_gone(self, name_id: str) -> bool:
        """Whether the storage had the volume of that id, and has it no more, by the last list."""
        return _name(name_id) in self._gone

    def has_any(self, name_ids: Collection[str]) -> bool:
        """Whether the last list has one of the volumes of these ids."""
        return not self._listed.isdisjoint(_name(name_id) for name_id in name_ids)

    def has_lost_all(self, name_ids: Collection[str]) -> bool:
        """Whether the storage had some of the volumes of these ids, and has none of them, by the last list."""
        names = {_name(name_id) for name_id in name_ids}
        with self._lock:
            return not names.isdisjoint(self._gone) and names.isdisjoint(self._listed)

    def listed(self) -> frozenset[str] | None:
        """Names of the volumes in the last list; None before the first one."""
        return self._listed if self._listed_at > float("-inf") and self._can_list else None

    def refresh(self, max_age: float = MAX_AGE) -> None:
        """Have the storage listed again, in the background, if the last list is older than ``max_age`` seconds."""
        with self._lock:
            is_due = time.monotonic() - self._listed_at > max(max_age, self._min_age)
            if not is_due or self._is_reading or not self._can_list:
                return
            self._is_reading = True
        threading.Thread(target=self._try_to_read, name=f"inventory-{self._backend_id}", daemon=True).start()

    def read_first(self) -> None:
        """Have the storage listed now if it was not yet, and something is expected of it. Raises nothing."""
        with self._lock:
            if self._listed_at > float("-inf") or not self._can_list:
                return
        # Not left to a thread that has begun to: it may wait for the slot that the caller holds.
        if self._expected():
            self._try_to_read()

    def keep(self, name_ids: Collection[str]) -> None:
        """Forget what is gone of all but these volumes: the others were deleted."""
        names = {_name(name_id) for name_id in name_ids}
        with self._lock:
            self._gone &= names

    def _try_to_read(self) -> None:
        try:
            self._read()
        except NotImplementedError:
            self._can_list = False
        except Exception as error:  # noqa: BLE001
            # Drivers raise anything here; the last list stays.
            LOG.info("the volumes of backend %s cannot be listed: %s", self._backend_id, error_text(error))
        finally:
            with self._lock:
                self._listed_at = time.monotonic()
                self._is_reading = False

    def _read(self) -> None:
        before = self._listed if self.listed() is not None else frozenset(map(_name, self._expected()))
        with self._slot():
            began = time.monotonic()
            entries = driver_calls.list_manageable(self._driver, "volumes", known=[])
            seconds = time.monotonic() - began
        names = {str((entry.get("reference") or {}).get("source-name")) for entry in entries}
        with self._lock:
            self._gone = (self._gone | before) - names
            self._listed = frozenset(names)
            self._min_age = max(_MIN_AGE, _SHARE * seconds)


def _name(name_id: str) -> str:
    name: str = cfg.CONF.volume_name_template % name_id
    return name
