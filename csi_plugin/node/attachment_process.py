"""Runs csi_plugin.attachment in a process of its own, which takes os-brick's memory with it when it ends."""

import contextlib
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

from csi_plugin.attachment.connection_rules import ConnectionRefused
from csi_plugin.attachment.errors import AttachmentError, EncryptionError, OtherHost, OtherVolume
from csi_plugin.attachment.files import LOCAL_FOLDERS, NODE_FOLDER
from csi_plugin.attachment.storage_networks import CLUSTER_NETWORKS, STORAGE_NETWORKS
from csi_plugin.instrumentation import tracing
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.protocol.errors import aborted, failed_precondition, internal
from csi_plugin.protocol.sealed_box import SealedBoxError

LOG = logging.getLogger(__name__)

_TASK_SECONDS = 600
"""Attaching may wait for a fabric; what takes longer than this will not end."""

_WAITING_SECONDS = 900
"""For others to end: the slowest of them, and some before that."""

_IDLE_SECONDS = 60
"""Tasks come in bursts, with pods that start or end: a burst pays once for importing os-brick."""

_OUTDATED = {error.__name__ for error in (SealedBoxError, OtherHost)}
_PRECONDITIONS = {error.__name__ for error in (AttachmentError, ConnectionRefused, EncryptionError, OtherVolume)}


class ConnectionOutdated(Exception):
    """The connection information is for what the node was before: for another key, or for another host."""


class Interruption:
    """Ends a task from another thread, before or while it runs. Thread-safe, and good for one task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process_id: int | None = None
        self._is_called_off = False

    def call_off(self) -> None:
        """Kill the task, with the programs that it has started; it does not begin where it has not begun."""
        with self._lock:
            self._is_called_off = True
            self._kill()

    @property
    def is_called_off(self) -> bool:
        return self._is_called_off

    def begin(self, process_id: int) -> None:
        """The task runs in a fork, whose process group has this id."""
        with self._lock:
            self._process_id = process_id
            if self._is_called_off:
                self._kill()

    def end(self) -> None:
        """The task has ended: its process id may be another process's soon."""
        with self._lock:
            self._process_id = None

    def _kill(self) -> None:
        if self._process_id is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process_id, signal.SIGKILL)


class AttachmentProcess:
    """The process that runs tasks, each in a fork; there is one while it is needed, and for a minute after that.

    Thread-safe.
    """

    def __init__(self, configuration: NodeConfiguration) -> None:
        self._configuration = configuration
        self._lock = threading.Lock()
        self._running_process: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        """With the socket over which it gets tasks."""
        self._running_tasks = 0
        self._idle_timer: threading.Timer | None = None

    def run(self, task: str, *, interruption: Interruption | None = None, **arguments: Any) -> Any:
        """Run one task of ``csi_plugin.attachment.tasks``; ``arguments`` are its own.

        Raises ConnectionOutdated, FAILED_PRECONDITION for a volume that cannot be attached as it is, INTERNAL, and
        ABORTED after an ``interruption``.
        """
        request = {
            "task": task,
            "key_file": str(self._configuration.key_file),
            "multipath": self._configuration.multipath,
            "root_helper": self._configuration.root_helper,
            **arguments,
        }
        with tracing.span(f"attachment.{task}"):
            response = self._ask(task, json.dumps(request).encode(), interruption or Interruption())
        if "error" not in response:
            return response["result"]
        if response["kind"] in _OUTDATED:
            raise ConnectionOutdated(response["error"])
        if response["kind"] in _PRECONDITIONS:
            raise failed_precondition(response["error"])
        raise internal(f"{task} failed: {response['error']}")

    def _ask(self, task: str, request: bytes, interruption: Interruption) -> dict[str, Any]:
        for _ in range(2):
            with self._fork() as (channel, process):
                response = _talk(channel, task, request, interruption)
            if response is not None:
                return response
            # The process was killed before it forked: the task has not begun.
            self._discard(process)
        raise internal(f"{task} could not begin: the process that attaches volumes was killed, twice")

    @contextmanager
    def _fork(self) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
        """A socket to talk to a new fork on, and the process that forks."""
        ours, theirs = socket.socketpair()
        with self._lock:
            self._running_tasks += 1
            if self._idle_timer is not None:
                self._idle_timer.cancel()
        try:
            with ours:
                with theirs, self._lock:
                    process = self._send(theirs)
                yield ours, process
        finally:
            with self._lock:
                self._running_tasks -= 1
                if not self._running_tasks:
                    self._idle_timer = threading.Timer(_IDLE_SECONDS, self._end_if_idle)
                    self._idle_timer.daemon = True
                    self._idle_timer.start()

    def _send(self, channel: socket.socket) -> subprocess.Popen[bytes]:
        process, control = self._running_process or self._start()
        try:
            socket.send_fds(control, [b"1"], [channel.fileno()])
        except ConnectionError:
            self._discard_locked(process)
            process, control = self._start()
            socket.send_fds(control, [b"1"], [channel.fileno()])
        return process

    def _discard(self, process: subprocess.Popen[bytes]) -> None:
        """A process was killed: nothing is sent to it any more, even if it is not gone yet."""
        with self._lock:
            self._discard_locked(process)

    def _discard_locked(self, process: subprocess.Popen[bytes]) -> None:
        if self._running_process is None or self._running_process[0] is not process:
            return  # another thread has seen it
        LOG.warning("the process that attaches volumes was killed; another one is started")
        self._running_process[1].close()
        self._running_process = None
        process.wait()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        configuration = self._configuration
        configuration.temporary_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            "OSLO_LOCK_PATH": str(configuration.locks_dir),
            "TMPDIR": str(configuration.temporary_dir),
            NODE_FOLDER: str(configuration.state_dir),
        }
        if configuration.local_folders is not None:
            environment[LOCAL_FOLDERS] = os.pathsep.join(map(str, configuration.local_folders))
        if configuration.storage_networks is not None:
            environment[STORAGE_NETWORKS] = ",".join(configuration.storage_networks)
        if configuration.cluster_networks:
            environment[CLUSTER_NETWORKS] = ",".join(configuration.cluster_networks)
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            # Its standard error may hold anything, so nobody reads it; what it logs comes with the responses.
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "csi_plugin.attachment"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | environment,
                start_new_session=True,
            )
        self._running_process = process, ours
        return self._running_process

    def _end_if_idle(self) -> None:
        with self._lock:
            if self._running_tasks or self._running_process is None:
                return
            process, control = self._running_process
            control.close()  # which ends it
            self._running_process = None
        process.wait()


def _talk(channel: socket.socket, task: str, request: bytes, interruption: Interruption) -> dict[str, Any] | None:
    """Log what the fork logs; returns its response when it has ended, or None if there was no fork."""
    pid: int | None = None
    response: dict[str, Any] | None = None
    time_left = _TimeLeft()
    try:
        for record in _exchange(channel, request, time_left):
            if "pid" in record:
                pid = record["pid"]
                interruption.begin(record["pid"])
            elif "waiting" in record:
                time_left.wait(begins=record["waiting"])
            elif "logger" in record:
                logging.getLogger(record["logger"]).log(record["level"], record["message"])
            else:
                response = record
    except TimeoutError:
        if pid is not None:
            # With the programs that it has started. One that hangs in the kernel stays, and nobody waits for it.
            os.killpg(pid, signal.SIGKILL)
        raise internal(f"{task} {time_left.what_was_long()}") from None
    finally:
        interruption.end()
    if response is None and interruption.is_called_off:
        raise aborted(f"{task} gives way to an operation that was asked for")
    if response is None and pid is not None:
        raise internal(f"{task} was killed, or ended without a response")
    return response


class _TimeLeft:
    """The time that a task has for its own work. Waiting for others does not count, and has an end of its own."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + _TASK_SECONDS
        self._left_for_work: float | None = None
        """Set while it waits."""

    def wait(self, *, begins: bool) -> None:
        now = time.monotonic()
        if begins and self._left_for_work is None:
            self._left_for_work = self._deadline - now
            self._deadline = now + _WAITING_SECONDS
        elif not begins and self._left_for_work is not None:
            self._deadline = now + self._left_for_work
            self._left_for_work = None

    def seconds(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def what_was_long(self) -> str:
        if self._left_for_work is None:
            return f"did not end within {_TASK_SECONDS} s"
        return f"has waited {_WAITING_SECONDS} s for another operation on the volume or its target, which has not ended"


def _exchange(channel: socket.socket, request: bytes, time_left: _TimeLeft) -> Iterator[dict[str, Any]]:
    """Send the request; yields each line that comes, until the other side ends. Raises TimeoutError."""
    received = b""
    try:
        channel.settimeout(_TASK_SECONDS)
        channel.sendall(request)
        channel.shutdown(socket.SHUT_WR)
        while True:
            channel.settimeout(time_left.seconds())
            data = channel.recv(65536)
            if not data:
                return
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                yield json.loads(line)
    except ConnectionError:
        return  # it was killed
