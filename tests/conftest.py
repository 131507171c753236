"""What holds for all tests."""

from collections.abc import Generator, Iterator

import pytest

from tests.kubernetes_api import KubernetesAPI


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
