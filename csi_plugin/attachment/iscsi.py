"""iSCSI: portals, and which of them answer."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

_PORTAL_SECONDS = 2
_MOST_PROBES = 32
"""At a time, however many portals storage names."""


def reachable_portals(portals: Sequence[str]) -> set[str]:
    """Which of these accept a connection. A login to one that does not would take iscsid two minutes."""
    with ThreadPoolExecutor(min(len(portals), _MOST_PROBES) or 1) as probes:
        answers = probes.map(_is_reachable, portals)
        return {portal for portal, answered in zip(portals, answers, strict=True) if answered}


def portal_address(portal: str) -> tuple[str, int]:
    """Host and port of "address:port" or "[address]:port", which a target portal group may follow after a comma.

    Raises ValueError where there is no port.
    """
    host, _, port = portal.partition(",")[0].rpartition(":")
    return host.strip("[]"), int(port)


def with_brackets(portal: str) -> str:
    """A portal as iscsiadm wants it, which takes an IPv6 address without brackets for one without a port."""
    address, group, rest = portal.partition(",")
    host, colon, port = address.rpartition(":")
    return f"[{host}]:{port}{group}{rest}" if colon and ":" in host and not host.startswith("[") else portal


def _is_reachable(portal: str) -> bool:
    try:
        socket.create_connection(portal_address(portal), _PORTAL_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
