"""What the controller needs to know that is neither a request nor a record."""

from dataclasses import dataclass, field

from csi_plugin.persistence.initiators import NODE_LIFETIME_SECONDS

FEATURES = frozenset({"clone", "snapshot", "expand", "expand_online", "block_rwx"})
"""Features that ``disabled_features`` may name."""


@dataclass(frozen=True, kw_only=True)
class ControllerConfiguration:
    """Settings of the controller; see the settings page for where they come from.

    Raises ValueError for a value that makes no sense.
    """

    driver_name: str = "csi.cinderbox.io"
    cluster_name: str = ""
    """Named in descriptions and metadata on the array, so that its admin can tell whose a volume is."""
    undo_window_seconds: float = 15 * 60
    """How long after an interrupted attempt its object may be removed without a person's decision."""
    settle_seconds: float = 10
    """How long after a crash the storage is given to show what an interrupted attempt created, and how long the id of
    an attempt that left nothing is not used again."""
    recovery_interval_seconds: float = 60
    """Pause between two looks at an object that waits for something."""
    node_lifetime_seconds: float = NODE_LIFETIME_SECONDS
    """A registered node that has no volume counts as alive this long after it last registered."""
    node_expiry_seconds: float = 0
    """A node that has no volume and has not registered for this long is forgotten; 0: never."""
    most_waiting_for_store: int = 64
    """Calls that may wait at once until the metadata store is current; each holds a thread."""
    disabled_features: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if unknown := sorted(self.disabled_features - FEATURES):
            raise ValueError(
                f"disabled_features has unknown {', '.join(unknown)}; allowed are {', '.join(sorted(FEATURES))}"
            )
        for name in (
            "undo_window_seconds",
            "settle_seconds",
            "recovery_interval_seconds",
            "node_lifetime_seconds",
            "node_expiry_seconds",
            "most_waiting_for_store",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
