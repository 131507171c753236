"""iSCSI: the portals through which a connection reaches its volume, a path each."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_PORTAL_SECONDS = 2


def portals(connection_info: dict[str, Any]) -> list[str]:
    """The portals that a connection names; none of another protocol."""
    data = connection_info["data"]
    named = data.get("target_portals") or [data.get("target_portal")]
    return [str(portal) for portal in named if portal]


def reachable_portals(named: list[str]) -> int:
    """How many of these accept a connection. A login to one that does not would take iscsid two minutes."""
    with ThreadPoolExecutor(len(named) or 1) as probes:
        return sum(probes.map(_is_reachable, named))


def portal_address(portal: str) -> tuple[str, int]:
    """Host and port of "address:port" or "[address]:port", which a target portal group may follow after a comma.

    Raises ValueError where there is no port.
    """
    host, _, port = portal.partition(",")[0].rpartition(":")
    return host.strip("[]"), int(port)


def _is_reachable(portal: str) -> bool:
    try:
        socket.create_connection(portal_address(portal), _PORTAL_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
