"""What holds for all tests."""

from collections.abc import Generator, Iterator

import pytest

from tests.support.kubernetes_api import KubernetesAPI
from tests.support.mariadb import MariaDB
from tests.support.postgresql import PostgreSQL


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skip as a failure: `make setup` provides what tests need, so a skipped test hides something."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which counts as a failure: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesAPI]:
    """An API server for metadata in custom resources; every test takes a namespace of its own."""
    server = KubernetesAPI(tmp_path_factory.mktemp("kubernetes"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A server for metadata in a database; tests create databases of their own."""
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """As ``mariadb``."""
    server = PostgreSQL()
    yield server
    server.stop()
