"""What Cinder's RBD driver says of a cluster that it could not ask: nothing, which reads as room without end."""

from typing import Any


def complete(driver: Any, stats: dict[str, Any]) -> None:
    """Report as down what has no capacity to tell, since every pool of Ceph's has. Does nothing for other drivers."""
    if hasattr(driver.__class__, "_connect_to_rados") and stats.get("free_capacity_gb") == "unknown":
        stats["backend_state"] = "down"
