"""A real ``cinderbox serve`` for tests: settings in, a running process with its CSI stubs out."""

import json
import os
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
from csi_plugin.server.serve import EXIT_LEADERSHIP_LOST
from tests.support import processes
from tests.support.devices import clean_up
from tests.support.loop_volumes import file_names
from tests.support.project import LOOP_DRIVER, PROJECT

QUICK = {"CINDERBOX_SETTLE_SECONDS": "0.5", "CINDERBOX_RECOVERY_INTERVAL_SECONDS": "0.3"}
"""Settings of a server that recovers at once."""
LOST = (EXIT_LEADERSHIP_LOST, -signal.SIGKILL)
"""How a server ends that is no longer the active one: by itself, or by the kernel when it stood still."""


class Served:
    """A server process and what is on its disk. ``folder`` holds all of it: socket, metadata, volumes, state, logs."""

    def __init__(
        self,
        folder: Path,
        *,
        mode: str = "all",
        persistence: Mapping[str, Any] | None = None,
        driver: str = LOOP_DRIVER,
        backend: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "server",
        prefix: tuple[str, ...] = (),
    ) -> None:
        """``prefix``: a command that becomes the server, which is appended to it.

        ``backend``: more options of the one backend; None takes one of the loop driver's away.
        """
        options = {"name": "loop", "driver": driver, "loop_volumes_dir": str(folder / "volumes"), **(backend or {})}
        self.folder = folder
        self.volumes = folder / "volumes"
        self.state = folder / f"{name}-state"
        self.database = folder / "metadata.sqlite"
        # Unix sockets have short paths, and pytest's folders have long ones.
        self._socket_folder = tempfile.TemporaryDirectory(prefix="cbx-")
        self.socket = Path(self._socket_folder.name) / "csi.sock"
        self.log = folder / f"{name}.log"
        self.mode = mode
        self.prefix = prefix
        self._environment = {
            "PYTHONFAULTHANDLER": "1",
            "CSI_ENDPOINT": f"unix://{self.socket}",
            "CSI_MODE": mode,
            "CINDERBOX_STATE_DIR": str(self.state),
            "CINDERBOX_LOG_LEVEL": "debug",
            "X_CSI_NODE_ID": "test-node",
            "X_CSI_PERSISTENCE_CONFIG": json.dumps(
                persistence or {"storage": "db", "connection": f"sqlite:///{self.database}"}
            ),
            "X_CSI_BACKEND_CONFIG": json.dumps({key: value for key, value in options.items() if value is not None}),
            "PYTHONPATH": str(PROJECT),
            **(environment or {}),
        }
        self.process: processes.Process | None = None

    def start(self, *, wait: bool = True, **environment: str) -> "Served":
        """Start the process, with more environment variables if given, and wait until Probe says ready."""
        with self.log.open("ab") as log:
            self.process = processes.start(
                ["serve"], self._environment | environment, stdout=log, stderr=log, prefix=self.prefix
            )
        self.channel = grpc.insecure_channel(f"unix://{self.socket}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.identity = csi_pb2_grpc.IdentityStub(self.channel)
        self.controller = csi_pb2_grpc.ControllerStub(self.channel)
        self.group_controller = csi_pb2_grpc.GroupControllerStub(self.channel)
        self.node = csi_pb2_grpc.NodeStub(self.channel)
        if wait:
            self.wait_until_ready()
        return self

    def command(self, *arguments: str, expect: int = 0, with_errors: bool = False, **environment: str) -> str:
        """What ``cinderbox`` prints to its output, and ``with_errors`` besides, with this server's settings, and more
        environment variables."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            status = processes.start(arguments, self._environment | environment, stdout=stdout, stderr=stderr).wait()
            for file in (stdout, stderr):
                file.seek(0)
            assert status == expect, f"exit status {status}: {stderr.read().decode()}"
            return stdout.read().decode() + (stderr.read().decode() if with_errors else "")

    def begin(self, *arguments: str) -> processes.Process:
        """Start a ``cinderbox`` command with this server's settings, and leave it running."""
        nowhere = subprocess.DEVNULL
        return processes.start(arguments, self._environment, stdout=nowhere, stderr=nowhere)

    def wait_until_ready(self, timeout: float = 60, pause: float = 0.05) -> None:
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}: {self.log_text()}"
            assert time.monotonic() < deadline, f"not ready after {timeout} s: {self.log_text()}"
            time.sleep(pause)

    def is_ready(self) -> bool:
        try:
            return bool(self.identity.Probe(csi_pb2.ProbeRequest(), timeout=5).ready.value)
        except grpc.RpcError:
            return False

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End the process as an orchestrator would; returns its exit status."""
        return self._end(signal.SIGTERM)

    def wait_for_exit(self, timeout: float = 30) -> int:
        """Wait for a process that ends by itself; returns its exit status."""
        assert self.process is not None
        status = self.process.wait(timeout)
        self.channel.close()
        return status

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        try:
            return self.wait_for_exit(90)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it tells what its threads do
            self.process.wait(30)
            raise AssertionError(f"it does not end: {self.log_text()}") from None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def files(self) -> list[str]:
        """What the loop driver has on disk."""
        return file_names(self.volumes) if self.volumes.is_dir() else []

    def records(self) -> list[tuple[str, str]]:
        """(table, id) of what the database has of volumes, snapshots, connections and groups."""
        tables = ("volumes", "snapshots", "volume_attachment", "groups", "group_snapshots")
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return [
                (table, row[0])
                for table in tables
                for row in connection.execute(f"SELECT id FROM {table} WHERE NOT deleted")
            ]

    def close(self) -> None:
        """End the process if it runs, and take down whatever a failed test left mounted or attached."""
        if self.is_running():
            self.kill()
        clean_up(self.folder)
        self._socket_folder.cleanup()


@contextmanager
def serving(folder: Path, **arguments: Any) -> Iterator[Served]:
    """A server that is ready, for the length of a block. Arguments as for Served."""
    served = Served(folder, **arguments)
    try:
        yield served.start()
    finally:
        served.close()
