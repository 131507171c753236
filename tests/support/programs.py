"""Programs that get to a certain point, and run code from there in forks of themselves, as often as asked.

Run with the names of modules, it imports them; tests use ``before_the_library`` and ``after_importing_the_library``.
"""

import functools
import gc
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

_OTHERS = ("sqlalchemy.orm", "networkx", "requests", "webob.exc", "OpenSSL.SSL", "lxml.etree", "jsonschema", "yaml")
"""What Cinder and its libraries import most of, and what takes no part in the order in which they are imported."""
_ARGUMENTS = ("program", "--its-own", "argument", "--config-file", "/nowhere")


class Program:
    def __init__(self, *modules: str) -> None:
        self._errors = os.memfd_create("errors")
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Nothing of this process' way of running is taken over.
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def run(self, code: str, *arguments: str, path: Path | None = None) -> str:
        """What a program prints that goes on with ``code``.

        The code finds as ``before`` what ``state`` gave before the imports. ``path``: where modules are looked for
        first.
        """
        with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
            assert self._process.stdin and self._process.stdout
            request = {
                "code": textwrap.dedent(code),
                "arguments": arguments,
                "path": ["", *([str(path)] if path else [])],
                "outputs": [output.name, errors.name],
            }
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline() == b"0\n", errors.read() + self.said()
            return output.read()

    def said(self) -> str:
        """What the imports have said."""
        return os.pread(self._errors, 1 << 20, 0).decode()


@functools.cache
def before_the_library() -> Program:
    """Neither our package nor Cinder is imported yet."""
    return Program(*_OTHERS)


@functools.cache
def after_importing_the_library() -> Program:
    return Program("csi_plugin.storage.backend")


def state() -> list[Any]:
    """What of a process is its program's own."""
    root = logging.getLogger()
    return [
        *(root.level, [repr(handler) for handler in root.handlers], logging.root.disabled, logging.raiseExceptions),
        *(logging.getLoggerClass().__name__, logging.lastResort is not None, logging.getLevelName(30)),
        *(logging.getLogger("program").isEnabledFor(logging.ERROR), logging.getLogRecordFactory().__name__),
        [str(signal.getsignal(number)) for number in sorted(signal.valid_signals()) if number not in (9, 19)],
        *(sys.argv, sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__),
        warnings.showwarning.__module__,
    ]


def main() -> None:
    gc.disable()
    modules, sys.argv = sys.argv[1:], list(_ARGUMENTS)
    before = state()
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if not (child := os.fork()):
            _go_on(request, before)
            sys.stdout.flush()
            os._exit(0)  # taking apart what is loaded takes longer than most programs
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _go_on(request: dict[str, Any], before: list[Any]) -> None:
    for number, path in enumerate(request["outputs"], 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    sys.path[:1] = request["path"]
    if request["arguments"]:
        sys.argv = ["-c", *request["arguments"]]
    exec(compile(request["code"], "program", "exec"), {"__name__": "__main__", "before": before, "state": state})


if __name__ == "__main__":
    main()
