"""What every RPC of the controller works with."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.deleted_names import DeletedNames
from csi_plugin.controller.identifiers import Identifiers
from csi_plugin.controller.node_limits import NodeLimits
from csi_plugin.controller.recovery_queue import RecoveryQueue
from csi_plugin.controller.requests.fingerprint import fingerprint
from csi_plugin.controller.returned_ids import ReturnedIds
from csi_plugin.controller.source_locks import SourceLocks
from csi_plugin.persistence.base import RecordStore
from csi_plugin.protocol import current_rpc
from csi_plugin.protocol.inflight import InFlight

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

T = TypeVar("T")


class Backends(Protocol):
    """The loaded backends; ``csi_plugin.storage.backend_set`` has the real one."""

    def get(self, name: str, /) -> "Backend":
        """The backend of that name, ready to use. Raises an error named in ``error_table`` when it is not."""

    def find_ready(self, name: str, /) -> "Backend | None":
        """The backend of that name, or None unless it can be used now."""

    def check_known(self, name: str, /) -> None:
        """Raise ValueError when nobody has configured a backend of that name; not while that cannot be said."""

    def ready(self) -> "list[Backend]":
        """The backends that can be used now."""

    def starting(self) -> list[str]:
        """Names of the backends whose first start has not ended."""

    def topologies(self) -> dict[str, list[dict[str, str]]]:
        """CSI topologies by backend name, of those that are not up too; an empty list for accessible from anywhere."""


class Call(Protocol):
    """The part of grpc.ServicerContext that the controller uses."""

    def time_remaining(self) -> float | None:
        """Seconds to the caller's deadline; None, or centuries, when it has none."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call that when the RPC ends, also because its caller gave up; False when it has ended."""


@dataclass(frozen=True, kw_only=True)
class ControllerContext:
    """Shared by all RPCs; everything in it is thread-safe."""

    configuration: ControllerConfiguration
    backends: Backends
    store: RecordStore
    inflight: InFlight
    identifiers: Identifiers
    returned_ids: ReturnedIds
    deleted_names: DeletedNames
    store_waits: threading.Semaphore
    """Of the calls that wait until the store is current."""
    source_locks: SourceLocks = field(default_factory=SourceLocks)
    node_limits: NodeLimits = field(default_factory=NodeLimits)
    recovery_queue: RecoveryQueue = field(default_factory=RecoveryQueue)
    """What recovery should look at: orphans and waiting deletions."""

    def run(self, resource: str, request: Any, action: Callable[[], T], call: Call) -> T:
        """Run one operation on a resource at a time. A repeat of the running one shares its outcome, others wait.

        ``request``: what a repeat has in common with the first, as JSON. Raises ABORTED when what runs on the resource
        does not end before the caller's deadline.
        """
        return self.inflight.run(resource, fingerprint(request), action, wait_seconds=call.time_remaining())

    def hold(self, *resources: str) -> AbstractContextManager[None]:
        """Let nothing else run on some resources for the length of a block; ABORTED when something does."""
        return self.inflight.hold(*resources)

    def wait_and_hold(self, *resources: str) -> AbstractContextManager[None]:
        """hold() that waits for its turn until just before the caller's deadline.

        Marks are waited for in one order, so that no two wait for each other: names, objects, sources of copies, Cinder
        groups. Who has one of these waits only for later ones.
        """
        return self.inflight.hold(*resources, wait_seconds=current_rpc.time_to_queue())
