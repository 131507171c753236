"""Databases that the persistence tests use: empty ones on real servers, and a prepared SQLite file to copy."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from csi_plugin.persistence.crd import CRDPersistence
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
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL

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


@pytest.fixture(scope="session")
def postgresql_url(postgresql: PostgreSQL) -> str:
    url = postgresql.create_database()
    DBPersistence(url).close()
    return url


@pytest.fixture
def make_mariadb(mariadb_url: str) -> Callable[[], DBPersistence]:
    return emptied(mariadb_url)


@pytest.fixture
def make_postgresql(postgresql_url: str) -> Callable[[], DBPersistence]:
    return emptied(postgresql_url)


def emptied(url: str) -> Callable[[], DBPersistence]:
    """What opens a database that has no records now."""
    plugin = _opened_once(url)
    for kind in DELETION_ORDER:
        for record in plugin.find(kind):
            plugin.delete(record)
    return lambda: DBPersistence(url)


@cache
def _opened_once(url: str) -> DBPersistence:
    return DBPersistence(url)


@pytest.fixture
def make_crd(kubernetes: KubernetesAPI) -> Callable[[], CRDPersistence]:
    """What opens a new namespace."""
    namespace = kubernetes.new_namespace()
    return lambda: CRDPersistence(namespace=namespace, kubeconfig=str(kubernetes.kubeconfig))


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.sqlite"
    return request.getfixturevalue(request.param).create_database()
