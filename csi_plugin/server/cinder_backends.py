"""The controller's backends as the CinderBackends of its namespace have them, and their statuses."""

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.backend_resources import (
    POOL_FULL,
    BackendReport,
    BackendResources,
    Condition,
    DesiredBackend,
    Pool,
)
from csi_plugin.secrets_in_text import redact_text
from csi_plugin.server.cinder_backend_configuration import Refused, configuration_of
from csi_plugin.storage.backend_configuration import BackendConfiguration
from csi_plugin.storage.backend_set import BackendSet, BackendStatus
from csi_plugin.storage.cinder.driver_classes import current_path
from csi_plugin.storage.cinder.driver_stats import full_pools, is_up

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
"""Pause between two looks at Secrets, volumes and capacities; what administrators change is seen at once."""


class CinderBackends:
    """Keeps a BackendSet as administrators define it. One thread, from start() to stop().

    What cannot be done leaves the backend as it is; the resource's conditions say why.
    """

    def __init__(
        self,
        resources: BackendResources,
        backends: BackendSet,
        *,
        taken: Collection[str],
        topologies: Sequence[Mapping[str, str]],
    ) -> None:
        """``taken``: names of backends that the settings have, which count more than a resource; ``topologies``: of
        backends that name none themselves."""
        self._resources = resources
        self._backends = backends
        backends.are_all_known = False
        self._taken = frozenset(taken)
        self._topologies = [dict(segments) for segments in topologies]
        self._configured: dict[str, BackendConfiguration] = {}
        self._unused_since: dict[str, float] = {}
        self._wake = threading.Event()
        self._is_stopping = False
        self._is_watching = False
        self._thread = threading.Thread(target=self._run, name="cinder-backends", daemon=True)

    def start(self) -> None:
        """Take what there is now, so that the backends are known when this returns, and go on in a thread."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Look at once: a backend's status has changed."""
        self._wake.set()

    def _watch(self) -> None:
        if not self._is_watching:
            self._resources.start(self.wake)
            self._is_watching = True

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            if not self._is_stopping:
                self._look()

    def _look(self) -> None:
        with _logged("CinderBackends"):
            self._watch()
            desired = self._resources.all()
            for name in self._configured.keys() - {found.name for found in desired}:
                LOG.warning("backend %s: its CinderBackend no longer exists", name)
                self._forget(name)
            volumes, snapshots = self._resources.count()
            for found in desired:
                with _logged(f"CinderBackend {found.name}"):
                    self._look_at(found, volumes[found.name], snapshots[found.name])
            # Not while one is refused: somebody has configured it.
            known = {status.name for status in self._backends.status()}
            self._backends.are_all_known = known.issuperset(found.name for found in desired)

    def _look_at(self, desired: DesiredBackend, volumes: int, snapshots: int) -> None:
        if desired.name in self._taken:
            self._leave_to_settings(desired)
            return
        if not desired.has_finalizer and not desired.is_deleting:
            self._resources.add_finalizer(desired.name)
        blocker = self._deletion_blocker(desired, volumes, snapshots) if desired.is_deleting else ""
        if desired.is_deleting and not blocker:
            LOG.info("backend %s is removed: its CinderBackend was deleted", desired.name)
            self._forget(desired.name)
            self._resources.remove_finalizer(desired.name)
            return
        refusal = None
        try:
            self._configure(desired, volumes + snapshots)
        except Refused as error:
            refusal = Condition(status=False, reason=error.reason, message=str(error))
        self._backends.suspend(desired.name, desired.is_suspended or desired.is_deleting)
        status = self._status(desired.name)  # once, so that both conditions are of one moment
        up_to_date = refusal or _up_to_date(status)
        report = BackendReport(
            ready=self._ready(desired, status, up_to_date),
            up_to_date=up_to_date,
            pools=self._pools(desired.name),
            volumes=volumes,
            snapshots=snapshots,
            deletion_blocker=blocker,
        )
        self._resources.report(desired, report)

    # What administrators define

    def _leave_to_settings(self, desired: DesiredBackend) -> None:
        if desired.is_deleting:
            self._resources.remove_finalizer(desired.name)
            return
        message = "the controller's settings have a backend of this name, which counts; remove one of the two"
        taken = Condition(status=False, reason="NameTaken", message=message)
        self._resources.report(desired, BackendReport(ready=taken, up_to_date=taken))

    def _configure(self, desired: DesiredBackend, uses: int) -> None:
        """Configure the backend unless it is so already. Raises Refused."""
        configuration = configuration_of(desired, self._resources, topologies=self._topologies)
        present = self._configured.get(desired.name)
        if configuration == present:
            return
        if present is not None and uses and not _is_same_driver(present, configuration):
            raise Refused(
                "InvalidConfiguration",
                f"spec.driver cannot be changed while volumes or snapshots are on the backend ({uses} are): "
                "create another CinderBackend",
            )
        self._configured[desired.name] = configuration
        self._backends.configure(configuration)

    def _deletion_blocker(self, desired: DesiredBackend, volumes: int, snapshots: int) -> str:
        """Why a backend whose resource was deleted has to stay; empty when it may go."""
        if desired.is_forgotten:
            return ""
        if volumes or snapshots:
            self._unused_since.pop(desired.name, None)
            return (
                f"{volumes} volumes and {snapshots} snapshots are on it. Delete them; or, to leave them on the storage "
                "without a driver, annotate it with cinderbox.io/forget=true"
            )
        if self._backends.find_ready(desired.name) is None:
            return ""
        # A creation that began before the backend was suspended may not be recorded yet.
        since = self._unused_since.setdefault(desired.name, time.monotonic())
        return "" if time.monotonic() - since >= LOOK_SECONDS else "its last operations end"

    def _forget(self, name: str) -> None:
        self._backends.remove(name)
        self._configured.pop(name, None)
        self._unused_since.pop(name, None)

    # How it is

    def _status(self, name: str) -> BackendStatus | None:
        return next((status for status in self._backends.status() if status.name == name), None)

    def _ready(self, desired: DesiredBackend, status: BackendStatus | None, up_to_date: Condition) -> Condition:
        if status is None or not status.is_ready:
            return Condition(status=False, reason=up_to_date.reason, message=up_to_date.message)
        backend = self._backends.get(desired.name)
        if backend.driver_stats.error:
            message = redact_text(f"the storage does not answer: {backend.driver_stats.error}")
            return Condition(status=False, reason="Unreachable", message=message)
        if not is_up(backend.driver_stats.recent()):
            return Condition(status=False, reason="Unreachable", message="the driver says that its storage is down")
        if desired.is_deleting or desired.is_suspended:
            cause = "it is being removed" if desired.is_deleting else "spec.suspend"
            return Condition(status=True, reason="Suspended", message=f"takes no new volumes ({cause})")
        if full := full_pools(backend.driver_stats.recent()):
            return Condition(status=True, reason=POOL_FULL, message=f"nothing is free in pool {', '.join(full)}")
        return Condition(status=True, reason="Ready", message="serves volumes")

    def _pools(self, name: str) -> tuple[Pool, ...]:
        backend = self._backends.find_ready(name)
        if backend is None:
            return ()
        return tuple(
            Pool(name=pool["pool_name"], capacity=_room(pool, "total"), free=_room(pool, "free"))
            for pool in backend.driver_stats.recent()["pools"]
        )


def _up_to_date(status: BackendStatus | None) -> Condition:
    if status is None or not (status.is_current or status.attempts):
        message = "its driver is being started"
        if status is not None and status.is_ready:
            message = "a driver with its new configuration is being started, and the former one serves"
        return Condition(status=None, reason="Starting", message=message)
    if status.is_current:
        return Condition(status=True, reason="InForce", message="spec and Secret are in force as they are now")
    reason = "InvalidConfiguration" if status.is_invalid else "StartFailed"
    return Condition(status=False, reason=reason, message=redact_text(status.error))


def _room(pool: Mapping[str, Any], which: str) -> float | str:
    room = pool.get(f"{which}_capacity_gb")
    return float(room) if isinstance(room, int | float) else str(room or "unknown")


def _is_same_driver(one: BackendConfiguration, other: BackendConfiguration) -> bool:
    return current_path(one.driver) == current_path(other.driver)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """One resource's trouble must not stop the others; everything is looked at again soon."""
    try:
        yield
    except PersistenceError as error:
        LOG.info("%s: skipped, the API server is unavailable: %s", what, error)
    except Exception:
        LOG.exception("%s failed", what)
