"""Runs csi_plugin.attachment in a child process, which takes os-brick's memory with it when it ends."""

import json
import logging
import os
import signal
import subprocess
import sys
from typing import Any

from csi_plugin import tracing
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.protocol.errors import failed_precondition, internal

_SECONDS = 600
"""Attaching may wait for a fabric; what takes longer than this will not end."""

_PRECONDITIONS = {"AttachmentError", "EncryptionError", "OtherVolume"}


class ConnectionUnreadable(Exception):
    """The sealed connection information is for another key: the node's key has changed."""


def run(configuration: NodeConfiguration, operation: str, **arguments: Any) -> Any:
    """Run one operation of ``csi_plugin.attachment.__main__``; ``arguments`` are its own.

    Raises ConnectionUnreadable, FAILED_PRECONDITION for a volume that cannot be attached as it is, and INTERNAL.
    """
    with tracing.span(f"attachment.{operation}"):
        return _run(configuration, operation, arguments)


def _run(configuration: NodeConfiguration, operation: str, arguments: dict[str, Any]) -> Any:
    request = {
        "operation": operation,
        "key_file": str(configuration.key_file),
        "multipath": configuration.multipath,
        "root_helper": configuration.root_helper,
        **arguments,
    }
    configuration.temporary_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Its standard error may hold anything, so nobody reads it; what it logs comes with the answer.
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "csi_plugin.attachment"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OSLO_LOCK_PATH": str(configuration.locks_dir), "TMPDIR": str(configuration.temporary_dir)},
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(json.dumps(request).encode(), timeout=_SECONDS)
    except subprocess.TimeoutExpired as expired:
        # With the programs that it has started. One that hangs in the kernel stays, and nobody waits for it.
        os.killpg(child.pid, signal.SIGKILL)
        _log_and_answer(expired.output or b"")
        raise internal(f"{operation} did not end within {_SECONDS} s") from None
    answer = _log_and_answer(output)
    if answer is None:
        raise internal(f"{operation} ended with status {child.returncode} and no answer")
    if "error" not in answer:
        return answer["result"]
    if answer["kind"] == "SealedBoxError":
        raise ConnectionUnreadable(answer["error"])
    if answer["kind"] in _PRECONDITIONS:
        raise failed_precondition(answer["error"])
    raise internal(f"{operation} failed: {answer['error']}")


def _log_and_answer(output: bytes) -> dict[str, Any] | None:
    """Log what the child has logged; returns its answer, unless it ended before that."""
    whole_lines, _, _ = output.rpartition(b"\n")
    for line in whole_lines.splitlines():
        record: dict[str, Any] = json.loads(line)
        if "logger" not in record:
            return record
        logging.getLogger(record["logger"]).log(record["level"], record["message"])
    return None
