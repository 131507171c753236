"""What this process is doing now, for ``cinderbox operations``: the operations in flight, and where each is."""

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from csi_plugin.instrumentation import steps
from csi_plugin.protocol import operations_pb2, operations_pb2_grpc
from csi_plugin.protocol.inflight import InFlight, Operation
from csi_plugin.secrets_in_text import redact_text

_COMMAND_LENGTH = 300
"""Characters that are shown of a program and its arguments."""
_GENERATIONS = 8
"""How deep programs that start programs are followed (sudo, rootwrap, sh...)."""


class OperationsService(operations_pb2_grpc.OperationsServicer):
    """Serves ``cinderbox.v1.Operations``. Looks at this process alone, and waits for nobody."""

    def __init__(self, inflight: InFlight) -> None:
        self._inflight = inflight

    def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: Any
    ) -> operations_pb2.ListOperationsResponse:
        found = [_shown(marks) for marks in by_thread(self._inflight)]
        return operations_pb2.ListOperationsResponse(operations=found)


def by_thread(inflight: InFlight) -> list[list[Operation]]:
    """The marks of each operation that runs, the oldest operation and the oldest mark first.

    A creation marks the name that it is for, and the id that it makes: one thread's marks are one operation.
    """
    found: dict[threading.Thread, list[Operation]] = {}
    for mark in inflight.running():
        found.setdefault(mark.thread, []).append(mark)
    return list(found.values())


def _shown(marks: list[Operation]) -> operations_pb2.Operation:
    first, now = marks[0], time.monotonic()
    shown = operations_pb2.Operation(
        what=first.rpc.method if first.rpc else first.thread.name,
        resource=next((_resource(mark.key) for mark in marks if not _is_name(mark.key)), ""),
        name=next((mark.key.partition("/")[2] for mark in marks if _is_name(mark.key)), ""),
        age_seconds=first.age_seconds,
        command=_command(first.thread),
        waiting_calls=sum(mark.waiting for mark in marks),
        request_id=first.rpc.request_id if first.rpc else "",
    )
    if first.rpc and first.rpc.deadline is not None and now > first.rpc.deadline:
        shown.overdue_seconds = now - first.rpc.deadline
    if taken := steps.of_thread(first.thread.ident or 0):
        shown.step, shown.step_seconds = taken[-1].name, now - taken[-1].began
        shown.backend = next((step.attributes["backend"] for step in taken if "backend" in step.attributes), "")
    return shown


def _is_name(key: str) -> bool:
    return key.partition("/")[0].endswith("-name")


def _resource(key: str) -> str:
    """A node's marks are on volumes, too."""
    kind, _, identifier = key.partition("/")
    return f"volume/{identifier}" if kind == "node" else key


def _command(thread: threading.Thread) -> str:
    """The program that a thread has started and that runs; of programs that start others, the innermost."""
    own = f"/proc/self/task/{thread.native_id}"
    process, children = 0, _children([Path(own, "children")])
    for _ in range(_GENERATIONS):
        if not children:
            break
        process = children[-1]
        children = _children(Path(f"/proc/{process}/task").glob("*/children"))
    if not process:
        return ""
    arguments = _read(Path(f"/proc/{process}/cmdline")).rstrip(b"\0").split(b"\0")
    # Joined without quotes, so that known secrets are found as they are.
    text = redact_text(" ".join(os.fsdecode(argument) for argument in arguments))
    return " ".join(text.split())[:_COMMAND_LENGTH]


def _children(files: Iterable[Path]) -> list[int]:
    """Processes that files of the kernel name, which may go at any time (proc(5), /proc/PID/task/TID/children)."""
    return sorted(int(number) for file in files for number in _read(file).split())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
