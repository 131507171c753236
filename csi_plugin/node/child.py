"""Runs csi_plugin.attachment in a child process, which takes os-brick's memory with it when it ends."""

import json
import subprocess
import sys
from typing import Any

from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.protocol.errors import failed_precondition, internal

_SECONDS = 600
"""Attaching may wait for a fabric; what takes longer than this will not end."""

_PRECONDITIONS = {"AttachmentError", "EncryptionError"}


class ConnectionUnreadable(Exception):
    """The sealed connection information is for another key: the node's key has changed."""


def run(configuration: NodeConfiguration, operation: str, **arguments: Any) -> Any:
    """Run one operation of ``csi_plugin.attachment.__main__``; ``arguments`` are its own.

    Raises ConnectionUnreadable, FAILED_PRECONDITION for a volume that cannot be attached as it is, and INTERNAL.
    """
    request = {
        "operation": operation,
        "key_file": str(configuration.key_file),
        "multipath": configuration.multipath,
        "root_helper": configuration.root_helper,
        **arguments,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "csi_plugin.attachment"],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise internal(f"{operation} did not end within {_SECONDS} s") from None
    except ValueError:
        # Its standard error may hold anything, so it is not passed on.
        raise internal(f"{operation} ended with status {done.returncode} and no answer") from None
    if "error" not in answer:
        return answer["result"]
    if answer["kind"] == "SealedBoxError":
        raise ConnectionUnreadable(answer["error"])
    if answer["kind"] in _PRECONDITIONS:
        raise failed_precondition(answer["error"])
    raise internal(f"{operation} failed: {answer['error']}")
