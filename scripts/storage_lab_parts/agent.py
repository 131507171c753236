"""Runs commands for client.py, one at a time; inside the guest, on a virtio-serial port.

Each message either way is a byte for its kind, four for its length, and its content. ``r`` asks to run what the JSON
says (``directory``, ``command``, ``environment``); ``o`` carries output, ``s`` the exit status, which ends the answer.
A client that goes takes its command with it.
"""

import json
import os
import select
import signal
import struct
import subprocess
import time
from pathlib import Path

PORT = Path("/dev/virtio-ports/agent")
HEADER = struct.Struct("!cI")


def main() -> None:
    while not PORT.exists():
        time.sleep(0.05)
    port = os.open(PORT, os.O_RDWR)
    while True:
        try:
            kind, content = receive(port)
            if kind == b"r":
                answer(port, json.loads(content))
        except ConnectionError:
            time.sleep(0.05)


def receive(port: int) -> tuple[bytes, bytes]:
    kind, length = HEADER.unpack(read(port, HEADER.size))
    return kind, read(port, length)


def read(port: int, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = os.read(port, length - len(data))
        if not part:
            raise ConnectionError("there is no client")
        data += part
    return data


def send(port: int, kind: bytes, content: bytes) -> None:
    data = HEADER.pack(kind, len(content)) + content
    while data:
        data = data[os.write(port, data) :]


def answer(port: int, request: dict[str, object]) -> None:
    forget_cached_files()
    try:
        process = subprocess.Popen(
            request["command"],
            cwd=request["directory"],
            env=os.environ | request["environment"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        send(port, b"o", f"{error}\n".encode())
        send(port, b"s", b"127")
        return
    try:
        relay(port, process.stdout.fileno())
    except ConnectionError:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    send(port, b"s", str(process.wait()).encode())


def relay(port: int, output: int) -> None:
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(port, 0)  # only whether the client is there
    while True:
        events = dict(poll.poll())
        if events.get(port, 0) & select.POLLHUP:
            raise ConnectionError("the client has gone")
        if output in events:
            part = os.read(output, 65536)
            if not part:
                return
            send(port, b"o", part)


def forget_cached_files() -> None:
    """The guest keeps what it has seen of the host's files; a file of the checkout may have changed since."""
    for _ in range(2):  # the overlay's own entries first, then those below it
        Path("/proc/sys/vm/drop_caches").write_text("3")


if __name__ == "__main__":
    main()
