"""Networks between a process and a server that break as real ones do."""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path


class Cable:
    """Forwards a port of the loopback to another, or to a socket, until it is cut: a network that one process loses."""

    def __init__(self, target: int | Path) -> None:
        self.target = target
        """Where new connections go; another one stands for a service that has moved to another host."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._is_cut = False
        self._is_unplugged = False
        self._lock = threading.Lock()
        self._requests_left: int | None = None
        self._loses_answer = False
        self._is_losing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """What is said on either side is not heard on the other any more."""
        self._is_cut = True

    def mend(self) -> None:
        """What was connected has broken; new connections work."""
        self._is_cut = False
        self._break()

    def unplug(self) -> None:
        """What was connected has broken, and so does each new connection: a server that is away."""
        self._is_unplugged = True
        self._break()

    def plug_in(self) -> None:
        """End unplug()."""
        self._is_unplugged = False

    def break_after(self, requests: int, *, lose: str) -> None:
        """Break what is connected after so many more requests of the near side. The next one is lost ("request"), or it
        is done and its answer is lost ("answer")."""
        with self._lock:
            self._requests_left, self._loses_answer, self._is_losing = requests, lose == "answer", False

    def has_broken(self) -> bool:
        """Whether break_after() has come to its end; from here on nothing breaks."""
        with self._lock:
            has_broken = self._requests_left is None
            self._requests_left = None
            return has_broken

    def close(self) -> None:
        self._is_cut = True
        self._listener.close()
        self._break()

    def _break(self) -> None:
        broken, self._open = self._open, []  # who is told first may connect again before the last one is
        for one in broken:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = None if self._is_unplugged else _connect(self.target)
            if far is None:
                near.close()
                continue
            self._open += [near, far]
            threading.Thread(target=self._pump, args=(near, far, self._may_ask), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, self._may_answer), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, may_pass: Callable[[], bool]) -> None:
        with source:
            with suppress(OSError):
                while data := source.recv(65536):
                    if not self._is_cut and may_pass():
                        target.sendall(data)
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)  # after a reset, too

    def _may_ask(self) -> bool:
        with self._lock:
            if self._requests_left is None or self._is_losing:
                return True
            self._requests_left -= 1
            if self._requests_left >= 0:
                return True
            if self._loses_answer:
                self._is_losing = True
                return True
            self._requests_left = None
        self._break()
        return False

    def _may_answer(self) -> bool:
        with self._lock:
            if not self._is_losing:
                return True
            self._is_losing, self._requests_left = False, None
        self._break()
        return False


def _connect(target: int | Path) -> socket.socket | None:
    """None where nobody listens now."""
    with suppress(OSError):
        if isinstance(target, int):
            return socket.create_connection(("127.0.0.1", target))
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(target))
        return made
    return None


def free_ports(count: int) -> Sequence[int]:
    """TCP ports of the loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
