"""Addresses at which a node looks for storage: where storage can be, and where it is only if settings say so.

An array that lies about its portals must not have nodes talk to what is behind the cluster's own addresses.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable

STORAGE_NETWORKS = "CINDERBOX_ATTACHMENT_STORAGE_NETWORKS"
"""Environment variable: networks in which all storage is, with commas between them; absent where that is not said."""
CLUSTER_NETWORKS = "CINDERBOX_ATTACHMENT_CLUSTER_NETWORKS"
"""Environment variable: networks of the cluster's services and pods."""
_API_SERVER = "KUBERNETES_SERVICE_HOST"
_MOST_NAMES = 16

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fault(hosts: Iterable[str], *, of_portals: bool) -> str | None:
    """What is wrong with where a connection says its storage is; None where nothing is.

    ``of_portals``: whether these are portals of block storage, which pods do not serve; Ceph's monitors and servers of
    shares may be pods.
    """
    named = os.environ.get(STORAGE_NETWORKS)
    allowed = None if named is None else networks(named.split(","))
    refused = networks([*os.environ.get(CLUSTER_NETWORKS, "").split(","), _api_server()])
    for host in dict.fromkeys(hosts):
        for address in _addresses(host, resolve=allowed is not None or bool(refused)):
            if allowed is not None:
                if not _is_in(address, allowed):
                    return f"{host} is in none of the networks in storage_networks ({named or 'none'})"
                continue
            if address.is_multicast or address.is_unspecified or address.is_link_local:
                return f"{host} is no address of storage, unless storage_networks has it"
            if of_portals and _is_in(address, refused):
                return f"{host} is in the cluster's networks of services and pods, unless storage_networks has it"
    return None


def keep_out_of(texts: Iterable[str]) -> None:
    """Add to the cluster's networks, for this process: what the controller has told with a connection."""
    named = [*os.environ.get(CLUSTER_NETWORKS, "").split(","), *texts]
    os.environ[CLUSTER_NETWORKS] = ",".join(dict.fromkeys(filter(None, named)))


def networks(texts: Iterable[str]) -> list[Network]:
    """Raises ValueError for what is no network."""
    return [ipaddress.ip_network(text.strip(), strict=False) for text in texts if text.strip()]


def _api_server() -> str:
    """The address of the API server among the cluster's services, in a pod."""
    host = os.environ.get(_API_SERVER, "")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


def _is_in(address: Address, among: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in among)


def _addresses(host: str, *, resolve: bool) -> list[Address]:
    """A host's, those that it is known by included; none for a name that nobody knows."""
    try:
        return [_plain(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        pass
    if not resolve:
        return []
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [_plain(ipaddress.ip_address(str(entry[4][0]))) for entry in found[:_MOST_NAMES]]


def _plain(address: Address) -> Address:
    """IPv4 in IPv6's clothes is what it is."""
    return getattr(address, "ipv4_mapped", None) or address
