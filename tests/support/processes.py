"""``cinderbox`` commands, and programs that use the library, as processes of their own, most of them forked from one
that has loaded everything."""

import contextlib
import functools
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.support.project import PROJECT

COMMAND = (sys.executable, "-W", "ignore", "-m", "csi_plugin.cli")
_TAKEN_OVER = ("PYTHONPATH", "PYTHONFAULTHANDLER")
"""Variables for Python that a forked process can follow."""


class ForkedProcess:
    """As subprocess.Popen, for a child of the template."""

    def __init__(self, template: "_Template", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._template = template
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. ``timeout``: seconds; raises subprocess.TimeoutExpired."""
        status = self._wait(None if timeout is None else timeout * 1000)
        if status is None:
            raise subprocess.TimeoutExpired("cinderbox", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _wait(self, milliseconds: float | None) -> int | None:
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if ended.poll(milliseconds):
                self.returncode = self._template.ask({"status_of": self.pid})
                os.close(self._descriptor)
        return self.returncode


Process = subprocess.Popen[bytes] | ForkedProcess


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
    prefix: Sequence[str] = (),
) -> Process:
    """A ``cinderbox`` command, with ``environment`` over this process' own.

    ``prefix``: a command that becomes the process. With one, or with settings of Python's own, it is a new interpreter.
    """
    merged = os.environ | environment
    if prefix or not _can_follow(merged):
        return subprocess.Popen([*prefix, *COMMAND, *arguments], env=merged, stdout=stdout, stderr=stderr)
    with Path(os.devnull).open("r+b") as nothing:
        outputs = [nothing if file == subprocess.DEVNULL else file for file in (stdout, stderr)]
        files = [file if isinstance(file, int) else file.fileno() for file in (nothing, *outputs)]
        return _fork({"arguments": list(arguments), "environment": merged, "folder": str(Path.cwd())}, files)


def run_programs(
    *commands: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Run Python programs at once, each given by its file and arguments, as a user of the library runs them; what each
    prints. The library is loaded before they begin.

    ``environment``: all that they have of one beside PYTHONPATH, where it may be set, too.
    """
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(PROJECT), **(environment or {})}
    with Path(os.devnull).open("rb") as nothing, contextlib.ExitStack() as opened:
        started = []
        for program, *arguments in commands:
            outputs = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
            request = {"program": str(program), "arguments": [str(one) for one in arguments], "folder": str(folder)}
            files = [file.fileno() for file in (nothing, *outputs)]
            started.append((_fork(request | {"environment": variables}, files), *outputs))
        return [_printed(*one) for one in started]


def _printed(process: ForkedProcess, stdout: IO[bytes], stderr: IO[bytes]) -> str:
    try:
        status = process.wait(100)
    finally:
        process.kill()
    for file in (stdout, stderr):
        file.seek(0)
    assert status == 0, f"exit status {status}: {stderr.read().decode()}"
    return stdout.read().decode()


def _fork(request: Mapping[str, object], files: Sequence[int]) -> ForkedProcess:
    template = _template()
    return ForkedProcess(template, template.ask(request, files))


def _can_follow(environment: Mapping[str, str]) -> bool:
    """Whether a forked process would be as a new one: not where coverage is measured, or Python is told otherwise."""
    told = {name for name, value in environment.items() if name.startswith("PYTHON") and os.environ.get(name) != value}
    return told <= {*_TAKEN_OVER} and environment.get("PYTHONPATH") == str(PROJECT) and "COVERAGE" not in environment


class _Template:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = PROJECT / "tests/support/process_template.py"
        with other:
            subprocess.Popen(
                [sys.executable, "-W", "ignore", program, str(other.fileno())],
                env=os.environ | {"PYTHONPATH": str(PROJECT)},
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )

    def ask(self, request: Mapping[str, object], files: Sequence[int] = ()) -> int:
        with self._lock:
            number = next(self._numbers)
            data = json.dumps({**request, "number": number}).encode()
            if files:
                socket.send_fds(self._control, [data], list(files))
            else:
                self._control.send(data)
            while True:
                # A test that was cut short may have left an answer.
                answered, answer = json.loads(self._control.recv(64))
                if answered == number:
                    return int(answer)


@functools.cache
def _template() -> _Template:
    return _Template()
