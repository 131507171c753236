"""A real MariaDB server for tests: on a socket in a directory of its own, ready in a tenth of a second."""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymysql


class MariaDB:
    """Without accounts (``--skip-grant-tables``), so an empty directory is enough. Debian: mariadb-server-core."""

    def __init__(self, directory: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        """``options``: the server's own, over those of a server that is fast and may lose its last second."""
        self.directory = directory
        self.socket = directory / "socket"
        self.environment = dict(environment or {})
        self._options = options
        (directory / "data").mkdir()
        (directory / "temporary").mkdir()
        self.start()

    def start(self, *options: str) -> None:
        """Start it, with more options if given, and wait until it answers."""
        notify = self.directory / "ready"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (self.directory / "log").open("ab") as log:
            ready.bind(str(notify))
            ready.settimeout(30)
            command = [
                *(shutil.which("mariadbd") or "/usr/sbin/mariadbd", "--no-defaults", "--skip-grant-tables"),
                *(f"--datadir={self.directory}/data", f"--socket={self.socket}", "--skip-networking"),
                # In a shared one, a server that starts deletes the temporary tables of those that run.
                f"--tmpdir={self.directory}/temporary",
                *("--innodb-flush-log-at-trx-commit=0", "--max-connections=300"),
                *(["--user=root"] if os.geteuid() == 0 else []),
                *self._options,
                *options,
            ]
            # The server tells a service manager when it is ready; here, we are that.
            environment = os.environ | {"NOTIFY_SOCKET": str(notify)} | self.environment
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                self.stop()
                raise RuntimeError(f"mariadbd did not start: {(self.directory / 'log').read_text()}") from None

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _connect(self) -> "pymysql.connections.Connection[Any]":
        # With TLS, pymysql would read all certificate authorities of the machine each time.
        return pymysql.connect(unix_socket=str(self.socket), user="root", ssl_disabled=True)

    def create_database(self, options: str = "CHARACTER SET utf8mb4") -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.socket}"

    def content(self, url: str) -> str:
        """Every row of every table of a database, as text."""
        name = url.partition("localhost/")[2].partition("?")[0]
        tables = self.execute(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{name}'")
        return "\n".join(repr(row) for (table,) in tables for row in self.execute(f"SELECT * FROM {name}.`{table}`"))

    def kill(self) -> None:
        """End it as a power cut would. Commits of its last second are lost, unless its options say otherwise."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
