"""Where sockets are: endpoints of settings, as gRPC has them."""

from pathlib import Path

from csi_plugin import addresses

_MOST_BYTES = 107
"""Of a socket's path: Linux's sockaddr_un has 108, with the zero at its end."""
_ESCAPE = "%"
"""With what follows, gRPC takes it for another character."""


def grpc_address(endpoint: str) -> str:
    """gRPC's form of an endpoint: unix:///path, unix:/path, tcp://host:port or host:port. Raises ValueError."""
    if endpoint.startswith("unix:"):
        path = endpoint.removeprefix("unix:")
        path = path[2:] if path.startswith("//") else path
        if not path.startswith("/"):
            path = str(Path.cwd() / path) if path else ""
        if not path or len(path.encode()) > _MOST_BYTES or _ESCAPE in path:
            raise ValueError(
                f"must name a unix socket by a path of 1 to {_MOST_BYTES} bytes without {_ESCAPE}, such as "
                "unix:///run/csi.sock"
            )
        return f"unix:{path}"
    address = endpoint.removeprefix("tcp://")
    try:
        addresses.split_host_port(address)
    except ValueError as error:
        raise ValueError(f"must be unix:///path or tcp://host:port ({error})") from None
    return address


def registration_socket(directory: Path, driver_name: str) -> Path:
    """Where kubelet finds that a driver is there."""
    return directory / f"{driver_name}-reg.sock"
