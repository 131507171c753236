"""Database servers of a test's own, which it may kill, fill and set the clock of, behind a network that it may cut."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.mariadb import MariaDB
from tests.support.network import Cable
from tests.support.postgresql import PostgreSQL

KINDS = ("mariadb", "postgresql")
_CLOCK_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")
_KEEPING = "--innodb-flush-log-at-trx-commit=2"  # commits outlive the process; PostgreSQL's do so anyway


@dataclass
class Database:
    server: MariaDB | PostgreSQL
    cable: Cable
    direct_url: str
    url: str
    """Through the cable."""
    clock: "Clock | None" = None

    @property
    def is_mariadb(self) -> bool:
        return isinstance(self.server, MariaDB)


class Clock:
    """What the programs that are started with ``environment`` take for the time; a file says how far off it is."""

    def __init__(self, folder: Path) -> None:
        library = next(
            str(found) for pattern in _CLOCK_LIBRARIES for found in Path("/").glob(pattern.removeprefix("/"))
        )
        self._file = folder / "clock"
        self.jump(0)
        self._file.chmod(0o644)
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """Be so many seconds off the machine's time."""
        self._file.write_text(f"{seconds:+d}")


@contextmanager
def running(kind: str, *, mebibytes: int = 0, has_clock: bool = False) -> Iterator[Database]:
    """A server of ``kind``, with a disk of its own of that size if given, and one database."""
    with ExitStack() as ends:
        # Not under pytest's directories, which others cannot enter; PostgreSQL does not run as root.
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
        folder.chmod(0o755)
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        disk = folder / "disk"
        disk.mkdir()
        if mebibytes:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", disk], check=True)
            ends.callback(subprocess.run, ["umount", disk], check=True)
        clock = Clock(folder) if has_clock else None
        environment = clock.environment if clock else None
        server: MariaDB | PostgreSQL
        if kind == "mariadb":
            server = MariaDB(disk, _KEEPING, "--innodb-log-file-size=4M", environment=environment)
            # What it makes at its first start is not safe from a kill before the first checkpoint.
            server.stop()
            server.start()
        else:
            server = PostgreSQL(disk, environment=environment)
        ends.callback(_end, server)
        cable = Cable(server.socket)
        ends.callback(cable.close)
        direct_url = server.create_database()
        yield Database(server, cable, direct_url, through(cable, direct_url), clock)


@contextmanager
def full(folder: Path) -> Iterator[Callable[[], None]]:
    """Fill the disk that a folder is on; what is given fills it again, when something became free."""
    ballast = folder / "ballast"

    def fill() -> None:
        with ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\1" * size)
                except OSError:
                    continue

    fill()
    try:
        yield fill
    finally:
        ballast.unlink()


def through(cable: Cable, url: str) -> str:
    """The URL of a server's database as one at the near end of a cable has it."""
    name = url.rpartition("/")[2] if "?" not in url else url.partition("?")[0].rpartition("/")[2]
    if url.startswith("mysql"):
        return f"mysql+pymysql://root@127.0.0.1:{cable.port}/{name}"
    # Without attempts at encryption, each of which would be a message.
    return f"postgresql+psycopg://cinderbox@127.0.0.1:{cable.port}/{name}?sslmode=disable&gssencmode=disable"


def _end(server: MariaDB | PostgreSQL) -> None:
    if isinstance(server, MariaDB):
        if server.process.poll() is None:
            server.stop()
    else:
        server.stop_if_running()
