"""A real PostgreSQL server for tests, on a socket in a directory of its own, where one is installed."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psycopg

from tests.support.polling import wait_until


def find_programs() -> Path | None:
    """The directory with initdb and postgres; Debian's packages keep them off the PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    return next((program.parent for program in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)


class PostgreSQL:
    def __init__(
        self, directory: Path | None = None, *options: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """``directory``: an empty one that every user can reach; without, one is made. ``options``: the server's."""
        programs = find_programs()
        assert programs is not None
        # Not under pytest's directories: the server refuses to run as root, and others cannot enter those.
        self.directory = directory or Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._programs = programs
        self._options = options
        self.account = None
        if os.geteuid() == 0:
            self.account = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
            shutil.chown(self.directory, self.account)
        self.user = "cinderbox"
        self.environment = dict(environment or {})
        self.socket = self.directory / ".s.PGSQL.5432"
        self._data = self.directory / "data"
        accounts = ("-A", "trust", "-U", self.user)
        self._run("initdb", "-D", self._data, *accounts, "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self.start()

    def start(self, *options: str) -> None:
        """Start it, with more options if given, and wait until it answers."""
        common = (f"-k {self.directory}", "-c listen_addresses=", "-c fsync=off", "-c max_connections=300")
        words = " ".join((*common, *self._options, *options))
        self._run("pg_ctl", "-D", self._data, "-o", words, "-l", self.directory / "log", "-w", "start")

    def create_database(self, options: str = "") -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return f"postgresql+psycopg://{self.user}@/{name}?host={self.directory}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(host=str(self.directory), user=self.user, dbname="postgres", autocommit=True) as server:
            server.execute(statement)

    def kill(self) -> None:
        """End it as a power cut would, with the processes of its connections."""
        pid_file = self._data / "postmaster.pid"
        pid = int(pid_file.read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)  # it starts no other one that would hold on to the shared memory
        wait_until(lambda: _state(pid) == "T", lambda: _state(pid))
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for process in (pid, *children):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for process in (pid, *children):
            wait_until(lambda process=process: not _is_running(process), lambda process=process: process)
        # A host that starts again runs none of these, and has an empty /run.
        pid_file.unlink()
        for socket in self.directory.glob(f"{self.socket.name}*"):
            socket.unlink()

    def stop_if_running(self) -> None:
        """Its files stay."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop", check=False)

    def stop(self) -> None:
        """Its files go."""
        self.stop_if_running()
        shutil.rmtree(self.directory)

    def _run(self, program: str, *arguments: object, check: bool = True) -> None:
        # pg_ctl waits until the server answers; its output is not captured, for the server would hold the pipe open.
        with (self.directory / "output").open("ab") as output:
            done = subprocess.run(
                [self._programs / program, *map(str, arguments)],
                cwd=self.directory,
                user=self.account,
                env=os.environ | self.environment,
                check=False,
                stdout=output,
                stderr=output,
            )
        text = "\n".join(
            file.read_text()[-2000:] for name in ("output", "log") if (file := self.directory / name).exists()
        )
        assert not (check and done.returncode), f"{program}: exit status {done.returncode}: {text}"


def _is_running(pid: int) -> bool:
    """Whether it has not ended; who waits for it may not have asked yet."""
    return _state(pid) not in "ZX"


def _state(pid: int) -> str:
    """As proc(5) has it; X where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
