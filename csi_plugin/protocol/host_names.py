"""By what storage knows a host: os-brick's connector properties that let it in, and whether they are what they were."""

from collections.abc import Mapping
from typing import Any

_IDENTITY = ("initiator", "nqn", "wwpns", "sdc_guid", "ip")
"""Connector properties by which storage lets a host in."""

_BY_PROTOCOL = {
    "iscsi": ("initiator",),
    "iser": ("initiator",),
    "fibre_channel": ("wwpns",),
    "nvme": ("nqn",),
    "nvmeof": ("nqn",),
    "scaleio": ("sdc_guid",),
}
"""Those that count for an export, of the protocols that go by names. Others may go by any."""


def changed_properties(
    recorded: Mapping[str, Any], present: Mapping[str, Any], *, protocol: str | None = None
) -> list[str]:
    """By which connector properties a host is not any more what it was: the names of those of which something is gone.

    What was added (a card, a tool) leaves an export as good as it was. ``protocol``: of an export, for which others do
    not count; None: all count.
    """
    counting = _IDENTITY if protocol is None else _BY_PROTOCOL.get(protocol.lower(), _IDENTITY)
    return [name for name in counting if not _values(recorded.get(name)) <= _values(present.get(name))]


def identity(connector: Mapping[str, Any]) -> dict[str, Any]:
    """Of a host's connector properties, those that changed_properties() looks at."""
    return {name: connector[name] for name in _IDENTITY if connector.get(name)}


def _values(found: Any) -> set[str]:
    return {value.lower() for value in (found if isinstance(found, list) else [found]) if isinstance(value, str)}
