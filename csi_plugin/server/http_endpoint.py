"""/healthz, /readyz and /metrics over HTTP, for kubelet's probes and Prometheus."""

import contextlib
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from csi_plugin import addresses
from csi_plugin.protocol.errors import RpcError
from csi_plugin.secrets_in_text import FIELD_LIMIT, redact_text
from csi_plugin.server.metrics import Metrics
from csi_plugin.server.sockets import AddressInUse

LOG = logging.getLogger(__name__)

_MOST_CONNECTIONS = 64
"""Open at once, each with a thread and a descriptor: a process without descriptors serves nobody."""
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HTTPEndpoint:
    """An HTTP server in threads of its own. Nothing that it answers is secret, and nothing can be changed by it."""

    def __init__(self, address: str, *, is_ready: Callable[[], bool], metrics: Metrics) -> None:
        """``address``: host:port. Raises AddressInUse."""
        try:
            self._server = _Server(*addresses.split_host_port(address), _handler(is_ready, metrics))
        except OSError as error:
            raise AddressInUse(f"http_address: cannot listen on {address}: {error.strerror}") from error

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Of more connections than it keeps, the oldest goes: it has not asked for anything for longest."""

    daemon_threads = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: dict[int, socket.socket] = {}
        """By their descriptors, in the order in which they came."""
        self._lock = threading.Lock()
        self.address_family, address = addresses.listening_address(host, port)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            is_for_both = self.server_address[0] == addresses.ALL_ADDRESSES
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not is_for_both))
        # Not HTTPServer's: that waits for a name server to tell this host's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections[request.fileno()] = request
            if len(self._connections) > _MOST_CONNECTIONS:
                oldest = self._connections.pop(next(iter(self._connections)))
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread sees the end, and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:  # before its descriptor is another's
            number = request.fileno()
            if self._connections.get(number) is request:
                del self._connections[number]
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away in the middle of an answer; anything else is worth a traceback, in the log's form."""
        is_clients = isinstance(sys.exception(), OSError)
        LOG.log(logging.DEBUG if is_clients else logging.ERROR, "http: a request has failed", exc_info=not is_clients)


def _handler(is_ready: Callable[[], bool], metrics: Metrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "cinderbox", ""
        timeout = 30

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                self._answer(200, b"ok\n")
            elif path == "/readyz":
                ready = self._is_ready()
                self._answer(200 if ready else 503, b"ok\n" if ready else b"not ready\n")
            elif path == "/metrics":
                self._answer(200, metrics.text(), _METRICS_TYPE)
            else:
                self._answer(404, b"/healthz, /readyz and /metrics are here\n")

        def _is_ready(self) -> bool:
            try:
                return is_ready()
            except RpcError:
                return False  # Probe says why

        def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            LOG.debug("http: %s", redact_text(format % arguments, limit=FIELD_LIMIT))

    return Handler
