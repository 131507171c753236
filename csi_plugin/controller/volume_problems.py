"""What is wrong with volumes, as far as records, the backends' last stats and their last lists tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from csi_plugin.controller.context import ControllerContext
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.protocol import csi_pb2
from csi_plugin.secrets_in_text import redact_text
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder import driver_stats, pool_facts

_REPLICATION_FAULTS = {"error", "failed-over", "failover-error"}


@dataclass(frozen=True)
class Problem:
    """One entry of a volume's health."""

    status: "csi_pb2.VolumeHealthErrorType.ValueType"
    reason: str
    """CamelCase, for machines."""
    message: str


@dataclass
class _State:
    """What holds for all volumes of a backend."""

    backend: Backend
    problems: list[Problem] = field(default_factory=list)
    of_pools: dict[str, Problem] = field(default_factory=dict)
    """What is wrong with single pools, by name."""


class VolumeProblems:
    """Looks at volumes with what the backends last said, which is read once. Never waits for storage."""

    def __init__(self, context: ControllerContext) -> None:
        self._states = {backend.name: _state(backend) for backend in context.backends.ready()}

    def of(self, record: VolumeRecord) -> list[Problem]:
        """All that is wrong with a volume: its backend's and pool's problems, and its own."""
        state = self._states.get(record.backend)
        if state is None:
            text = f"backend {record.backend} is not ready, so the volume cannot be managed now"
            return [Problem(csi_pb2.DEGRADED, "BackendUnavailable", text), *self.own(record)]
        of_pool = state.of_pools.get(record.pool)
        return [*state.problems, *self.own(record), *([of_pool] if of_pool else ())]

    def own(self, record: VolumeRecord) -> list[Problem]:
        """What is wrong with this volume alone."""
        found = []
        state = self._states.get(record.backend)
        if state is not None and state.backend.inventory.is_gone(record.name_id or record.id):
            text = f"the storage of backend {record.backend} had the volume, and does not list it any more"
            found.append(Problem(csi_pb2.INACCESSIBLE, "NotOnStorage", text))
        if record.status.startswith("error"):
            text = f"the last operation on the volume left it in status {record.status}"
            found.append(Problem(csi_pb2.DEGRADED, "OperationFailed", text))
        if record.replication_status in _REPLICATION_FAULTS:
            text = f"replication status is {record.replication_status}"
            found.append(Problem(csi_pb2.DEGRADED, "ReplicationFault", text))
        return found


def _state(backend: Backend) -> _State:
    state = _State(backend)
    stats = backend.driver_stats.recent()
    if not driver_stats.is_up(stats):
        text = f"the storage of backend {backend.name} reports that it is down"
        state.problems.append(Problem(csi_pb2.INACCESSIBLE, "BackendDown", text))
    elif backend.driver_stats.error:
        text = redact_text(f"the storage of backend {backend.name} does not answer: {backend.driver_stats.error}")
        state.problems.append(Problem(csi_pb2.DEGRADED, "BackendUnreachable", text))
    for pool in stats["pools"]:
        if problem := _problem_of_pool(backend, pool):
            state.of_pools[str(pool.get("pool_name"))] = problem
    return state


def _problem_of_pool(backend: Backend, pool: Mapping[str, Any]) -> Problem | None:
    """What is wrong with all volumes of a pool. A thick one has room for all of its volumes, however full it is."""
    where = f"pool {pool.get('pool_name')} of backend {backend.name}"
    if refusal := pool.get(pool_facts.REFUSAL):
        return Problem(csi_pb2.DEGRADED, "PoolRefuses", f"{where}: {refusal}")
    share = driver_stats.free_share(pool)
    if share is None or not pool.get("thin_provisioning_support", True):
        return None
    if share <= driver_stats.FULL:
        text = f"{where} is full: what its volumes have not written before, they cannot write, and none can grow"
        return Problem(csi_pb2.DEGRADED, "PoolFull", text)
    if share <= driver_stats.NEARLY_FULL:
        text = f"{where} has {share:.1%} of its room left; when it is full, its volumes cannot take new data"
        return Problem(csi_pb2.DEGRADED, "PoolNearlyFull", text)
    return None
