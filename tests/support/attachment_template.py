"""What a forked server's node starts as its attachment process: a fork, too, which waits until it is started.

A new interpreter takes a second of a core to load os-brick, at each start of a server. This is the server's child, with
descriptors, environment and session as the product's. Only the first of a server: the next is a new interpreter.
"""

import json
import os
import socket
import subprocess
import tempfile
import types
from typing import Any

from oslo_concurrency import lockutils

from csi_plugin.attachment import __main__ as attachment
from csi_plugin.node import attachment_process

_LIMIT = 192 * 1024
"""Bytes of an environment, which is one packet."""


def fork() -> None:
    """Before the server has threads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _wait_and_run(theirs)
        os._exit(0)
    theirs.close()
    waiting = [_Waiting(pid, ours)]

    def popen(arguments: list[str], **options: Any) -> Any:
        if waiting and arguments[-1] == "csi_plugin.attachment":
            return waiting.pop().start(options["stdin"], options["env"])
        return subprocess.Popen(arguments, **options)

    attachment_process.subprocess = types.SimpleNamespace(  # type: ignore[attr-defined]
        Popen=popen, DEVNULL=subprocess.DEVNULL
    )


class _Waiting:
    """As much of subprocess.Popen as the node uses."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self._control = control

    def start(self, stdin: int, environment: dict[str, str]) -> "_Waiting":
        with self._control:
            socket.send_fds(self._control, [json.dumps(environment).encode()], [stdin])
        return self

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _wait_and_run(control: socket.socket) -> None:
    data, files, _, _ = socket.recv_fds(control, _LIMIT, 1)
    if not data:
        return  # the server has ended, or has no node
    control.close()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, file in enumerate((files[0], nothing, nothing)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(files[0])
    os.environ.clear()
    os.environ.update(json.loads(data))
    # What is read when modules are loaded.
    tempfile.tempdir = None
    lockutils.set_defaults(os.environ["OSLO_LOCK_PATH"])
    attachment.main()
