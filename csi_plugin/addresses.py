"""Network addresses, IPv4 and IPv6 alike: this host's own, and those that settings name."""

import contextlib
import ipaddress
import re
import socket
from typing import Any

_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation (RFC 5737, RFC 3849), routed like any other."""
_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"(?=.{1,254}$)(\w([\w-]{0,61}\w)?)(\.\w([\w-]{0,61}\w)?)*\.?")
r"""Of a host, by DNS' rules of length; \w is for underscores, and for letters that are sent in another form."""
_LOOPBACK = "127.0.0.1"
_DISCARD_PORT = 9
ALL_ADDRESSES = "::"
"""To listen on: all of the host's, IPv6 and IPv4."""


def own_address() -> str:
    """The address that this host uses towards others, IPv4 where it has both; the loopback's where it has no route.

    No packet is sent to find it.
    """
    for family, address in _ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _DISCARD_PORT))
            return str(probe.getsockname()[0])
    return _LOOPBACK


def split_host_port(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``, where an IPv6 address is in brackets, which are left out of the host.

    Raises ValueError, which says what is allowed.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("must be host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise ValueError(f"must have an IPv6 address in the brackets, as in [::1]:{port}, not {host!r}")
    elif ":" in host or "[" in host or "]" in host:
        raise ValueError(f"must have brackets around an IPv6 address, as in [::1]:{port}")
    elif not _NAME.fullmatch(host):
        raise ValueError(
            f"must be host:port, with an address or a name of at most 253 characters as host, not {host!r}"
        )
    return host, int(port)


def check_host(text: str) -> None:
    """Raises ValueError for what is neither an address nor a name, such as an address with brackets or a port."""
    if not text or (any(character in text for character in ":[]/ ") and not _is_ipv6(text)):
        raise ValueError("must be an IPv4 or IPv6 address, without brackets and port, or a name")


def address_of(host: str) -> str:
    """The address of a host that is given by one or by a name. Raises OSError for a name that nobody knows."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def check_network(text: str) -> None:
    """Raises ValueError for what is no network, such as an address with bits behind the network's."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"must have networks such as 192.0.2.0/24 or 2001:db8::/32: {error}") from None


def listening_address(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Family and address to bind a TCP socket to: host and port, and of IPv6 also the link, where the host names one.

    Raises OSError for a name that nobody knows.
    """
    if host == ALL_ADDRESSES and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # this kernel has no IPv6
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, address


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
