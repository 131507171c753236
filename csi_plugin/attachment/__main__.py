"""The node's attachment process: runs each task in a fork of its own, so that os-brick is imported once for many.

Standard input is a socket, over which each task comes as the socket that it is to be talked to on. Secrets travel
through these only, and never reach the process that forks. On a task's socket come ``task``, its name, and its
arguments as JSON, up to the end of what is sent; back go lines of JSON: ``{"pid": ...}`` of the fork, then
``{"logger": ..., "level": ..., "message": ...}`` of whatever os-brick and its libraries warn of, ``{"waiting": true}``
and false when it begins to wait for other tasks and goes on, then ``{"result": ...}``, or ``{"error": message, "kind":
class name}``.

The process ends when nobody holds the other end of its standard input any more; forks end when they are done.
"""

import contextlib
import fcntl
import gc
import hashlib
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, TextIO

from csi_plugin.attachment import brick_runtime, waiting
from csi_plugin.attachment.tasks import TASKS
from csi_plugin.error_text import error_text
from csi_plugin.known_secrets import keep_secret, texts_in
from csi_plugin.secrets_in_text import redact_text


def main() -> None:
    _import_less()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the forks
    node = socket.socket(fileno=0)
    preloaded = False
    while True:
        _, descriptors, _, _ = socket.recv_fds(node, 1, 1)
        if not descriptors:
            return
        if os.fork() == 0:
            try:
                _run_task(socket.socket(fileno=descriptors[0]))
            finally:
                os._exit(0)  # os-brick's libraries leave threads behind
        os.close(descriptors[0])
        if not preloaded:
            # After the first fork, which imports only what it needs, and does not wait for the rest.
            _preload()
            preloaded = True


def _run_task(channel: socket.socket) -> None:
    """In the fork: read one task, run it, respond, and end."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channel.set_inheritable(False)
    # What os-brick and its libraries print is for nobody.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    lines = _Lines(channel.makefile("w"))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    lines.write({"pid": os.getpid()})
    waiting.tell(lambda waits: lines.write({"waiting": waits}))
    try:
        request = json.load(channel.makefile("r"))
        keep_secret(texts_in(request.get("secrets")))
        _wait_for_others(request.get("publication", ""))
        task = TASKS[request.pop("task")]
        response: dict[str, Any] = {"result": task(**request)}
    except Exception as error:  # noqa: BLE001 - the boundary to the node, which gets every error as data
        response = {"error": error_text(error), "kind": type(error).__name__}
    lines.write(response)


class _Lines(logging.Handler):
    """Lines for the node: log records and the response, without secrets, which only the fork knows.

    At once: a fork that hangs is killed, and what it said until then tells why.
    """

    def __init__(self, output: TextIO) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info:
            # Not its traceback, which tells only a developer of os-brick more.
            message = f"{message}: {record.exc_info[1]}"
        self.write({"logger": record.name, "level": record.levelno, "message": redact_text(message)})

    def write(self, line: dict[str, Any]) -> None:
        self.acquire()  # os-brick logs from threads of its own
        try:
            with contextlib.suppress(ConnectionError):  # the node has ended: the task is completed all the same
                self._output.write(json.dumps(line) + "\n")
                self._output.flush()
        finally:
            self.release()


def _wait_for_others(publication: str) -> None:
    """Be the only one that works on the node's volume, until this process ends.

    The fork of a node that was killed goes on without it: a detach must not come before what that still connects.
    """
    if not publication:
        return
    folder = Path(os.environ["OSLO_LOCK_PATH"])
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / "attachment.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # One byte of the file stands for the volume, so that there is no file for each to be removed.
    byte = int.from_bytes(hashlib.sha256(publication.encode()).digest()[:7], "big")
    with waiting.waiting():
        fcntl.lockf(file, fcntl.LOCK_EX, 1, byte)


def _import_less() -> None:
    """Half of the time that importing os-brick takes goes to what is never used here."""
    # Looked for by oslo's libraries and os-brick's VMware connector, which do without.
    for name in ("eventlet", "oslo_vmware"):
        sys.modules[name] = None  # type: ignore[assignment]


def _preload() -> None:
    """What tasks import, so that the forks from now on share it, and its memory."""
    import cryptography.hazmat.primitives.asymmetric.x25519
    import cryptography.hazmat.primitives.ciphers.aead
    import cryptography.hazmat.primitives.kdf.hkdf  # noqa: F401

    brick_runtime.preload_os_brick()
    gc.freeze()  # or the forks' garbage collectors would copy all of it


if __name__ == "__main__":
    main()
