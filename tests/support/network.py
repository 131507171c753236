"""Networks between a process and a server that break as real ones do."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress


class Cable:
    """Forwards a port of the loopback to another, until it is cut: a network that one process loses."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """What is said on either side is not heard on the other any more."""
        self._is_cut = True

    def mend(self) -> None:
        """What was connected has broken; new connections work."""
        self._is_cut = False
        self._break()

    def close(self) -> None:
        self._is_cut = True
        self._listener.close()
        self._break()

    def _break(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()  # nobody listens there now
                continue
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with source, suppress(OSError):
            while data := source.recv(65536):
                if not self._is_cut:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def free_ports(count: int) -> Sequence[int]:
    """TCP ports of the loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
