"""What every RPC of the controller works with."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.controller.identifiers import Identifiers
from csi_plugin.controller.node_limits import NodeLimits
from csi_plugin.controller.recovery_queue import Pending
from csi_plugin.controller.returned_ids import HandedOut
from csi_plugin.controller.source_locks import SourceUse
from csi_plugin.persistence.base import RecordStore
from csi_plugin.protocol.inflight import InFlight

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend


class Backends(Protocol):
    """The loaded backends; ``csi_plugin.storage.backend_set`` has the real one."""

    def get(self, name: str, /) -> "Backend":
        """The backend of that name, ready to use. Raises an error named in ``error_table`` when it is not."""

    def ready(self) -> "list[Backend]":
        """The backends that can be used now."""

    def topologies(self) -> dict[str, list[dict[str, str]]]:
        """CSI topologies by backend name, of those that are not up too; an empty list for accessible from anywhere."""


@dataclass(frozen=True, kw_only=True)
class Core:
    """Shared by all RPCs; everything in it is thread-safe."""

    configuration: ControllerConfiguration
    backends: Backends
    store: RecordStore
    inflight: InFlight
    identifiers: Identifiers
    handed_out: HandedOut
    sources: SourceUse = field(default_factory=SourceUse)
    node_limits: NodeLimits = field(default_factory=NodeLimits)
    pending: Pending = field(default_factory=Pending)
    """What recovery should look at: leftovers and waiting deletions."""


class Call(Protocol):
    """The part of grpc.ServicerContext that the controller uses."""

    def time_remaining(self) -> float | None:
        """Seconds to the caller's deadline; None, or centuries, when it has none."""
