"""Talks to the storage lab's guest, from the folder with its sockets; scripts/storage_lab is its user.

client.py wait PID | run DIRECTORY COMMAND... | shell DIRECTORY | reset

``wait`` returns when the guest answers, and fails when process PID ends before that. ``reset`` is a power cut.
"""

import fcntl
import json
import os
import select
import shlex
import shutil
import socket
import struct
import sys
import termios
import time
import tty
from pathlib import Path

HEADER = struct.Struct("!cI")
BOOT_SECONDS = 180


def main() -> int:
    verb, *arguments = sys.argv[1:]
    if verb == "wait":
        return wait(int(arguments[0]))
    if verb == "shell":
        return shell(arguments[0])
    if verb == "reset":
        return reset()
    return run(arguments[0], arguments[1:])


def wait(process: int) -> int:
    deadline = time.monotonic() + BOOT_SECONDS
    while not Path("agent.sock").exists():
        if not Path(f"/proc/{process}").exists() or time.monotonic() > deadline:
            return 1
        time.sleep(0.05)
    with connect("agent.sock") as agent:
        request(agent, "/", ["true"])
        while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
            if select.select([agent], [], [], 0.2)[0]:
                return answer(agent)
    return 1


def run(directory: str, command: list[str]) -> int:
    with Path("agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the agent runs one command at a time
        with connect("agent.sock") as agent:
            request(agent, directory, command)
            return answer(agent)


def reset() -> int:
    """Have QEMU reset the machine, which then boots again with the same disks; when it resets itself, it ends."""
    with connect("monitor.sock") as monitor, monitor.makefile("rw") as stream:

        def execute(command: str, **arguments: str) -> None:
            stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            stream.flush()

        execute("qmp_capabilities")
        execute("set-action", reboot="reset")
        execute("system_reset")
        if not any(json.loads(line).get("event") == "RESET" for line in stream):
            return 1
        execute("set-action", reboot="shutdown")
    return 0


def connect(name: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(name)
    return connection


def request(agent: socket.socket, directory: str, command: list[str]) -> None:
    environment = {name: os.environ[name] for name in ("TERM", "COLUMNS") if name in os.environ}
    content = json.dumps({"directory": directory, "command": command, "environment": environment}).encode()
    agent.sendall(HEADER.pack(b"r", len(content)) + content)


def answer(agent: socket.socket) -> int:
    """Print a command's output as it comes, and return its exit status; one that a signal ended has 128 and more."""
    with agent.makefile("rb") as stream:
        while header := stream.read(HEADER.size):
            kind, length = HEADER.unpack(header)
            content = stream.read(length)
            if kind == b"s":
                status = int(content)
                return status if status >= 0 else 128 - status
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
    print("the guest ended", file=sys.stderr)
    return 1


def shell(directory: str) -> int:
    """This terminal on the guest's console, until Ctrl-]."""
    print("A shell in the guest; Ctrl-] leaves it\r")
    columns, lines = shutil.get_terminal_size()
    before = termios.tcgetattr(0)
    with connect("shell.sock") as console:
        try:
            tty.setraw(0)
            console.sendall(f"stty rows {lines} columns {columns}; cd {shlex.quote(directory)}; clear\n".encode())
            while True:
                ready, _, _ = select.select([0, console], [], [])
                if console in ready:
                    if not (part := console.recv(65536)):
                        return 1
                    os.write(1, part)
                if 0 in ready:
                    part = os.read(0, 1024)
                    if not part or b"\x1d" in part:
                        return 0
                    console.sendall(part)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(main())
