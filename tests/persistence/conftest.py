"""Databases that the persistence tests use: a MariaDB server of their own, and a prepared SQLite file to copy."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pymysql
import pytest

from csi_plugin.persistence.dbms import DBPersistence
from csi_plugin.persistence.records import (
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    NodeRecord,
    SnapshotRecord,
    VolumeRecord,
)

pytest.register_assert_rewrite("csi_plugin.persistence.testing")

DELETION_ORDER = (
    ConnectionRecord,
    SnapshotRecord,
    GroupSnapshotRecord,
    VolumeRecord,
    GroupRecord,
    KeyValueRecord,
    NodeRecord,
)
"""Each kind after those that refer to it, as foreign keys want it."""


class MariaDB:
    """A server that listens on a socket in its own directory only."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket"
        data = directory / "data"
        user = [f"--user={os.environ.get('USER', 'root')}"] if os.geteuid() == 0 else []
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={data}",
                "--skip-test-db",
                *user,
                "--auth-root-authentication-method=normal",
            ],
            check=True,
            capture_output=True,
        )
        self._log = (directory / "log").open("wb")
        server = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        self._process = subprocess.Popen(
            [
                server,
                "--no-defaults",
                f"--datadir={data}",
                f"--socket={self.socket}",
                "--skip-networking",
                *user,
                "--innodb-flush-log-at-trx-commit=0",
                "--max-connections=300",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        subprocess.run(
            ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "--wait=30", "--user=root", "ping"],
            check=True,
            capture_output=True,
        )

    def execute(self, statement: str) -> None:
        with pymysql.connect(unix_socket=str(self.socket), user="root") as connection:
            connection.cursor().execute(statement)

    def create_database(self, options: str = "") -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.socket}"

    def dump(self, url: str) -> bytes:
        name = url.partition("localhost/")[2].partition("?")[0]
        command = ["mariadb-dump", "--no-defaults", f"--socket={self.socket}", "--user=root", name]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb_url(mariadb: MariaDB) -> str:
    """A database with the schema in place, for all tests that only need its records to be gone."""
    url = mariadb.create_database("CHARACTER SET utf8mb3")  # as Cinder's installation guide creates it
    DBPersistence(url).close()
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite"
    DBPersistence(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def make_sqlite(sqlite_template: Path, tmp_path: Path) -> Callable[[], DBPersistence]:
    path = tmp_path / "records.sqlite"
    shutil.copyfile(sqlite_template, path)
    return lambda: DBPersistence(f"sqlite:///{path}")


@pytest.fixture
def make_mariadb(mariadb_url: str) -> Callable[[], DBPersistence]:
    plugin = DBPersistence(mariadb_url)
    for kind in DELETION_ORDER:
        for record in plugin.find(kind):
            plugin.delete(record)
    plugin.close()
    return lambda: DBPersistence(mariadb_url)
