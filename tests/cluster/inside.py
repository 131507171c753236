"""What is inside the namespaces of the cluster, reached from outside without a process there."""

import ctypes
import os
import re
import socket
import threading
from pathlib import Path

from tests.support.api_objects import APIObjects

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def first_process(directory: Path) -> int:
    """The first process of the control plane's namespaces, as the machine sees it. ``directory``: the cluster's."""
    parent = int((directory / "pid").read_text())
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


def api_objects(directory: Path) -> APIObjects:
    configuration = (directory / "kubeconfig").read_text()
    url, token = (_found(pattern, configuration) for pattern in (r'server: "([^"]+)"', r"token: (\w+)"))

    def connect(address: tuple[str, int], timeout: float, source: None = None) -> socket.socket:
        return _connect_in_network(Path(f"/proc/{first_process(directory)}/ns/net"), address, timeout)

    return APIObjects(url, token, directory / "state/pki/apiserver.crt", connect)


def mounts_and_volumes(directory: Path, node: str) -> list[str]:
    """What is mounted on a node, and the names of its driver's volumes; nothing of a node that is off."""
    processes = Path(f"/proc/{first_process(directory)}/root/proc")
    parent = (directory / f"state/{node}.pid").read_text().strip()
    try:
        (process,) = (processes / parent / "task" / parent / "children").read_text().split()
        # A node that never had a volume has no such folder.
        volumes = (processes / process / "root/var/lib/cinderbox").glob("*/node/volumes/*")
        return [os.fsdecode((processes / process / "mounts").read_bytes()), *(path.name for path in volumes)]
    except (OSError, ValueError):
        return []


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"the cluster's kubeconfig has no {pattern}"
    return match[1]


def _connect_in_network(network: Path, address: tuple[str, int], timeout: float) -> socket.socket:
    """A socket belongs to the network of the thread that made it: one that goes there and ends."""
    made: list[socket.socket | OSError] = []

    def run() -> None:
        try:
            with network.open() as file:
                if _LIBC.setns(file.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            made.append(socket.create_connection(address, timeout))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
