"""The gRPC server and the sockets it listens on."""

import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import grpc

from csi_plugin.server.endpoints import grpc_address
from csi_plugin.server.interceptors import RpcInterceptor
from csi_plugin.server.registry_certificates import RegistryCertificates
from csi_plugin.server.settings import Settings
from csi_plugin.server.thread_pools import ThreadPools

LOG = logging.getLogger(__name__)


class AddressInUse(Exception):
    """Somebody else serves on the socket."""


def new_server(*, workers: int, observe: Callable[[str, str, float], None]) -> grpc.Server:
    """A server with threads for each kind of RPC. ``workers``: operations at once; ``observe``: as RpcInterceptor's."""
    pools = ThreadPools(workers=workers)
    return grpc.server(
        pools.operations,
        interceptors=[RpcInterceptor(pools, observe=observe)],
        options=[("grpc.so_reuseport", 0)],
    )


def listen(server: grpc.Server, endpoint: str, *, take_over: bool = False) -> None:
    """Listen in clear on a unix socket, or on TCP.

    A socket file that nobody serves is replaced. One that somebody serves raises AddressInUse, unless ``take_over``:
    the caller then holds what makes it the only one entitled (a stopped process keeps its socket open).
    """
    address = grpc_address(endpoint)
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        _free(path, take_over=take_over)
        _bind(server, address)
        path.chmod(0o600)  # it gives full control over storage
    else:
        if not address.startswith(("127.", "[::1]", "localhost")):
            LOG.warning("CSI on %s is neither encrypted nor authenticated; use a unix socket", address)
        _bind(server, address)


def listen_registry(server: grpc.Server, settings: Settings) -> None:
    """Listen on registry_endpoint; over TCP with certificates on both sides, which may be renewed."""
    assert settings.registry_endpoint is not None
    address = grpc_address(settings.registry_endpoint)
    if address.startswith("unix:"):
        listen(server, settings.registry_endpoint)
        return
    if server.add_secure_port(address, RegistryCertificates(settings).server_credentials()) == 0:
        raise AddressInUse(f"cannot listen on {address}")


def _bind(server: grpc.Server, address: str) -> None:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise AddressInUse(f"cannot listen on {address}: {error}") from error
    if port == 0:
        raise AddressInUse(f"cannot listen on {address}")


def _free(path: Path, *, take_over: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise AddressInUse(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    if not take_over and _is_served(path):
        raise AddressInUse(f"another process serves on {path}")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True
