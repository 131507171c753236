"""A real PostgreSQL server for tests, on a socket in a directory of its own, where one is installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from uuid import uuid4

import psycopg


def find_programs() -> Path | None:
    """The directory with initdb and postgres; Debian's packages keep them off the PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    return next((program.parent for program in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)


class PostgreSQL:
    def __init__(self) -> None:
        programs = find_programs()
        assert programs is not None
        # Not under pytest's directories: the server refuses to run as root, and others cannot enter those.
        self._directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
        user = None
        if os.geteuid() == 0:
            user = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
            shutil.chown(self._directory, user)
        self.user = "cinderbox"
        common = {"cwd": self._directory, "user": user, "check": True, "capture_output": True}
        data = self._directory / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", self.user, "-E", "UTF8", "--locale=C.UTF-8", "-N"],
            **common,
        )
        self._stop = lambda: subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **common)
        options = f"-k {self._directory} -c listen_addresses= -c fsync=off -c max_connections=300"
        # pg_ctl waits until the server answers; its output is not captured, for the server would hold the pipe open.
        subprocess.run(
            [programs / "pg_ctl", "-D", data, "-o", options, "-l", self._directory / "log", "-w", "start"],
            **common | {"capture_output": False, "stdout": subprocess.DEVNULL},
        )

    def create_database(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(
            host=str(self._directory), user=self.user, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{self.user}@/{name}?host={self._directory}"

    def stop(self) -> None:
        self._stop()
        shutil.rmtree(self._directory)
