"""Looks at the health of all volumes from time to time, so that people hear of it who ask nobody.

Only of what is wrong with single volumes: what is wrong with a backend is told once, by its CinderBackend.
"""

import logging
import threading
import time

from csi_plugin.controller import lookups
from csi_plugin.controller.context import ControllerContext
from csi_plugin.controller.recovery.failures import logged
from csi_plugin.controller.volume_problems import Problem, VolumeProblems
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage import changed_storage

LOG = logging.getLogger(__name__)

_SHARE = 20
"""Looking takes at most this part of the time, however many volumes there are."""


class HealthWatch:
    """A thread of its own. What it finds is logged and, where records are custom resources, a condition and Events."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._problems: dict[str, list[Problem]] = {}

    def start(self) -> None:
        """Begin; repeating it does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="health-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def problems_of(self, volume_id: str) -> list[tuple[str, str]]:
        """Reason and message of what is wrong with a volume, as of the last look."""
        return [(problem.reason, problem.message) for problem in self._problems.get(volume_id, ())]

    def look(self) -> None:
        """Look at all volumes, and have the storage listed if that is due."""
        backends = self._context.backends.ready()
        for backend in backends:
            backend.inventory.refresh()
        problems, found = VolumeProblems(self._context), {}
        name_ids: dict[str, set[str]] = {backend.name: set() for backend in backends}
        for record in lookups.iterate(self._context.store, VolumeRecord):
            name_ids.setdefault(record.backend, set()).add(record.name_id or record.id)
            if lookups.is_visible(record) and (wrong := problems.own(record)):
                found[record.id] = wrong
        for backend in backends:
            backend.inventory.keep(name_ids[backend.name])
            changed_storage.remember_names(backend, name_ids[backend.name])
        before, self._problems = self._problems, found
        changed = sorted(
            volume_id for volume_id in before.keys() | found.keys() if before.get(volume_id) != found.get(volume_id)
        )
        if changed:
            reasons = sorted({problem.reason for wrong in found.values() for problem in wrong})
            LOG.warning("%d volumes have problems now: %s", len(found), ", ".join(reasons) or "none")
            self._context.store.volume_health_changed(changed)

    def _run(self) -> None:
        pause = least = self._context.configuration.recovery_interval_seconds
        while not self._stopped.wait(pause):
            began = time.monotonic()
            with logged("health of volumes"):
                self.look()
            pause = max(least, _SHARE * (time.monotonic() - began))
