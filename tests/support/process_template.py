"""A process that has loaded everything, and turns into a ``cinderbox`` command, or a program that uses the library, as
often as a test asks: loading takes three seconds of a core, and tests start hundreds of processes.

Run as a program with the number of a socket's descriptor; tests use tests/support/processes.py.
"""

import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
import time

REQUEST_LIMIT = 192 * 1024
"""Bytes of a request, which is one packet."""
_NOT_LOADED = ("__main__", "migrations", "persistence_contract", "testing")
"""Programs, parts of Alembic's, and what only tests of plugins load."""


def main() -> None:
    gc.disable()  # what is loaded stays
    _load(importlib.import_module("csi_plugin"))
    gc.collect()  # once, so that no process is larger for it
    gc.freeze()
    gc.enable()
    request, files = _fork_on_request(socket.socket(fileno=int(sys.argv[1])))
    _become(request, files)
    if "program" in request:
        _run_program(request["program"])  # type: ignore[arg-type]
    else:
        if request["arguments"][:1] == ["serve"]:  # type: ignore[index]
            # Loaded by now, so that its own imports take nothing.
            importlib.import_module("tests.support.attachment_template").fork()
        runpy.run_module("csi_plugin.cli", run_name="__main__", alter_sys=True)


def _run_program(path: str) -> None:
    """As `python PATH ARGUMENTS` does. Modules that only it has are found as PYTHONPATH says."""
    for folder in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        sys.path.insert(0, folder)
    runpy.run_path(path, run_name="__main__")


def _load(package: object) -> None:
    for module in pkgutil.walk_packages(package.__path__, "csi_plugin."):  # type: ignore[attr-defined]
        if not any(part in _NOT_LOADED for part in module.name.split(".")):
            importlib.import_module(module.name)
    importlib.import_module("tests.support.attachment_template")


def _fork_on_request(control: socket.socket) -> tuple[dict[str, object], list[int]]:
    """Returns in each child, with what it was asked for; the process itself ends when the tests have."""
    while True:
        data, files, _, _ = socket.recv_fds(control, REQUEST_LIMIT, 3)
        if not data:
            sys.exit()
        request = json.loads(data)
        if "status_of" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["status_of"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                control.close()
                return request, files
        for file in files:
            os.close(file)
        control.send(json.dumps([request["number"], answer]).encode())


def _become(request: dict[str, object], files: list[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])  # type: ignore[arg-type]
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[arg-type]
    time.tzset()
    if "PYTHONFAULTHANDLER" in os.environ:
        faulthandler.enable()
    # It reads the environment when it is loaded.
    importlib.reload(sys.modules["csi_plugin.instrumentation.failpoints"])
    sys.argv = [request.get("program", "csi_plugin.cli"), *request["arguments"]]  # type: ignore[misc, list-item]


if __name__ == "__main__":
    main()
