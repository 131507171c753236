"""Values of connection information: what each kind of them may be. Nothing here looks at the host."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a field may hold."""

    is_valid: Callable[[Any], bool]
    allowed: str
    """In words, behind "must be"."""


MOST_ENTRIES = 256
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{0,4096}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,254}")
_NAME = re.compile(r"[^/\x00-\x1f\x7f-][^/\x00-\x1f\x7f]{0,254}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SCSI_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,222}")
_WORLD_WIDE_NAME = re.compile(r"(0x)?([0-9A-Fa-f]{2}:?){7}[0-9A-Fa-f]{2}")
_UNIT = re.compile(r"[0-9]{1,20}|0x[0-9A-Fa-f]{1,16}")
_IMAGE = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._:+-]{0,254}/[A-Za-z0-9._][A-Za-z0-9._:+-]{0,254}")
_TRANSPORTS = ("tcp", "rdma", "rocev2")
_SYSTEM_FOLDERS = ("/proc", "/sys", "/dev", "/etc", "/boot", "/root", "/usr", "/bin", "/sbin", "/lib", "/lib64")


def address_of(portal: str) -> str:
    """The host of "host:port" or "[address]:port", which a target portal group may follow after a comma."""
    return portal.partition(",")[0].rpartition(":")[0].strip("[]")


def is_host(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return bool(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        return _HOST.fullmatch(value) is not None


def is_path(value: Any) -> bool:
    """Absolute, and with nothing in it that leads back up or that no path has."""
    return (
        isinstance(value, str)
        and value.startswith("/")
        and len(value) <= 4096
        and value.isprintable()
        and ".." not in value.split("/")
    )


def share_hosts(export: str) -> list[str]:
    """Hosts that an export names: of "host:/path", "host,host:port:/path" and "quobyte://host,host:port/volume"."""
    scheme, separator, rest = export.partition("://")
    if separator and "/" not in scheme:
        hosts = rest.partition("/")[0]
    else:
        hosts, separator, _ = export.partition(":/")
    found = [host if is_host(host) else address_of(host) for host in hosts.split(",")] if separator else []
    return [host.removeprefix("[").removesuffix("]") for host in found]


def _is_portal(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    portal, _, group = value.partition(",")
    port = portal.rpartition(":")[2]
    return is_host(address_of(value)) and _is_port(port) and (not group or group.isdecimal())


def _is_port(value: Any) -> bool:
    text = str(value)
    return (
        not isinstance(value, bool)
        and isinstance(value, int | str)
        and text.isascii()
        and text.isdecimal()
        and len(text) <= 5
        and 0 < int(text) < 65536
    )


def _is_nvme_portal(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and is_host(value[0])
        and _is_port(value[1])
        and _is_transport(value[2])
    )


def _is_transport(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in _TRANSPORTS


def _is_unit(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return 0 <= value < 2**64
    return _matches(_UNIT)(value)


def _is_export(value: Any) -> bool:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 4096:
        return False
    return not value.startswith("-") and ".." not in re.split(r"[/:]", value) and all(map(is_host, share_hosts(value)))


def _is_nfs_export(value: Any) -> bool:
    return _is_export(value) and not value.startswith(":/") and ":/" in value and "://" not in value


def _is_name(value: Any) -> bool:
    return _matches(_NAME)(value) and value not in (".", "..")


def _is_file_below(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= 4096
        and value.isprintable()
        and all(part not in ("", ".", "..") for part in value.split("/"))
    )


def _is_mount_base(value: Any) -> bool:
    return is_path(value) and not any(value == folder or value.startswith(f"{folder}/") for folder in _SYSTEM_FOLDERS)


def _is_target_map(value: Any) -> bool:
    is_name = _matches(_WORLD_WIDE_NAME)
    return (
        isinstance(value, dict)
        and len(value) <= MOST_ENTRIES
        and all(is_name(name) and NAMES_OF_PORTS.is_valid(ports) for name, ports in value.items())
    )


def _is_node_map(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_ENTRIES
        and all(
            isinstance(node, dict)
            and is_host(node.get("target_portal"))
            and _is_port(node.get("target_port"))
            and _is_transport(node.get("transport_type"))
            for node in value.values()
        )
    )


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def list_of(kind: Kind) -> Kind:
    def is_list(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) <= MOST_ENTRIES and all(map(kind.is_valid, value))

    return Kind(is_list, f"a list of at most {MOST_ENTRIES}, each {kind.allowed}")


def one_or_list_of(kind: Kind) -> Kind:
    entries = list_of(kind)
    return Kind(lambda value: kind.is_valid(value) or entries.is_valid(value), f"{kind.allowed}, or {entries.allowed}")


TEXT = Kind(_matches(_TEXT), "one line of at most 4096 characters")
WORD = Kind(
    lambda value: _matches(_WORD)(str(value)) and isinstance(value, str | int),
    "a word of at most 255 letters, digits and . _ : + -, with a letter or digit in front",
)
NAME = Kind(_is_name, "a name of at most 255 characters without /, and no - in front")
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
HOST = Kind(is_host, "an IPv4 or IPv6 address or a host name")
PORT = Kind(_is_port, "a port from 1 to 65535")
PORTAL = Kind(_is_portal, "host:port, with brackets around an IPv6 address")
NVME_PORTAL = Kind(_is_nvme_portal, "an address, a port and a transport (tcp, rdma or RoCEv2)")
TRANSPORT = Kind(_is_transport, "tcp, rdma or RoCEv2")
SCSI_NAME = Kind(_matches(_SCSI_NAME), "a name of at most 223 letters, digits and . : _ -, such as iqn.2001-04.com.a:b")
NAME_OF_PORT = Kind(_matches(_WORLD_WIDE_NAME), "a world-wide name of 16 hexadecimal digits")
NAMES_OF_PORTS = one_or_list_of(NAME_OF_PORT)
TARGET_MAP = Kind(_is_target_map, "world-wide names of initiators, each with those of targets")
NODE_MAP = Kind(
    _is_node_map, "nodes of the storage, each with target_portal (a host), target_port and transport_type (tcp or rdma)"
)
UNIT = Kind(_is_unit, "a logical unit number")
EXPORT = Kind(_is_export, "a share of hosts, without .. in its path")
NFS_EXPORT = Kind(_is_nfs_export, "host:/path, without .. in the path")
FILE_BELOW = Kind(_is_file_below, "the name of a file on the share, without . and ..")
PATH = Kind(is_path, "an absolute path without ..")
MOUNT_BASE = Kind(_is_mount_base, "an absolute path without .. that is in none of the system's folders")
IMAGE = Kind(_matches(_IMAGE), "pool/image, of letters, digits and . _ : + -")
