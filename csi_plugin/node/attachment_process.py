"""Runs csi_plugin.attachment in a process of its own, which takes os-brick's memory with it when it ends."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from csi_plugin.instrumentation import tracing
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.protocol.errors import failed_precondition, internal

LOG = logging.getLogger(__name__)

_SECONDS = 600
"""Attaching may wait for a fabric; what takes longer than this will not end."""

_IDLE_SECONDS = 60
"""Operations come in bursts, with pods that start or end: a burst pays once for importing os-brick."""

_PRECONDITIONS = {"AttachmentError", "EncryptionError", "OtherVolume"}


class ConnectionUnreadable(Exception):
    """The sealed connection information is for another key: the node's key has changed."""


class AttachmentProcess:
    """The process that runs operations, each in a fork; there is one while it is needed, and for a minute after that.

    Thread-safe.
    """

    def __init__(self, configuration: NodeConfiguration) -> None:
        self._configuration = configuration
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._operations: socket.socket | None = None
        self._running = 0
        self._idle_timer: threading.Timer | None = None

    def run(self, operation: str, **arguments: Any) -> Any:
        """Run one operation of ``csi_plugin.attachment.operations``; ``arguments`` are its own.

        Raises ConnectionUnreadable, FAILED_PRECONDITION for a volume that cannot be attached as it is, and INTERNAL.
        """
        request = {
            "operation": operation,
            "key_file": str(self._configuration.key_file),
            "multipath": self._configuration.multipath,
            "root_helper": self._configuration.root_helper,
            **arguments,
        }
        with tracing.span(f"attachment.{operation}"):
            answer = self._answer(operation, json.dumps(request).encode())
        if "error" not in answer:
            return answer["result"]
        if answer["kind"] == "SealedBoxError":
            raise ConnectionUnreadable(answer["error"])
        if answer["kind"] in _PRECONDITIONS:
            raise failed_precondition(answer["error"])
        raise internal(f"{operation} failed: {answer['error']}")

    def _answer(self, operation: str, request: bytes) -> dict[str, Any]:
        for _ in range(2):
            with self._fork() as connection:
                answer = _talk(connection, operation, request)
            if answer is not None:
                return answer
            # The process was killed before it forked: nothing was begun.
        raise internal(f"{operation} could not begin: the process that attaches volumes was killed, twice")

    @contextmanager
    def _fork(self) -> Iterator[socket.socket]:
        """A socket to talk to a new fork on."""
        ours, theirs = socket.socketpair()
        with self._lock:
            self._running += 1
            if self._idle_timer is not None:
                self._idle_timer.cancel()
        try:
            with ours:
                with theirs, self._lock:
                    self._send(theirs)
                yield ours
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._idle_timer = threading.Timer(_IDLE_SECONDS, self._end_if_idle)
                    self._idle_timer.daemon = True
                    self._idle_timer.start()

    def _send(self, connection: socket.socket) -> None:
        if self._operations is None:
            self._operations = self._start()
        try:
            socket.send_fds(self._operations, [b"1"], [connection.fileno()])
        except ConnectionError:
            self._operations.close()
            self._operations = None
            self._operations = self._start()
            socket.send_fds(self._operations, [b"1"], [connection.fileno()])

    def _start(self) -> socket.socket:
        if self._process is not None:
            LOG.warning("the process that attaches volumes was killed; another one is started")
            self._process.wait()
        configuration = self._configuration
        configuration.temporary_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folders = {"OSLO_LOCK_PATH": str(configuration.locks_dir), "TMPDIR": str(configuration.temporary_dir)}
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            # Its standard error may hold anything, so nobody reads it; what it logs comes with the answers.
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "csi_plugin.attachment"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | folders,
                start_new_session=True,
            )
        return ours

    def _end_if_idle(self) -> None:
        with self._lock:
            if self._running or self._operations is None or self._process is None:
                return
            process = self._process
            self._operations.close()  # which ends it
            self._process = self._operations = None
        process.wait()


def _talk(connection: socket.socket, operation: str, request: bytes) -> dict[str, Any] | None:
    """Log what the fork logs; returns its answer when it has ended, or None if there was no fork."""
    pid: int | None = None
    answer: dict[str, Any] | None = None
    try:
        for record in _exchange(connection, request):
            if "pid" in record:
                pid = record["pid"]
            elif "logger" in record:
                logging.getLogger(record["logger"]).log(record["level"], record["message"])
            else:
                answer = record
    except TimeoutError:
        if pid is not None:
            # With the programs that it has started. One that hangs in the kernel stays, and nobody waits for it.
            os.killpg(pid, signal.SIGKILL)
        raise internal(f"{operation} did not end within {_SECONDS} s") from None
    if answer is None and pid is not None:
        raise internal(f"{operation} was killed, or ended without an answer")
    return answer


def _exchange(connection: socket.socket, request: bytes) -> Iterator[dict[str, Any]]:
    """Send the request; yields each line that comes, until the other side ends. Raises TimeoutError."""
    deadline = time.monotonic() + _SECONDS
    received = b""
    try:
        connection.settimeout(_SECONDS)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while True:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            data = connection.recv(65536)
            if not data:
                return
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                yield json.loads(line)
    except ConnectionError:
        return  # it was killed
