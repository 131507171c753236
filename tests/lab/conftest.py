"""Tests inside the storage lab's guest: `make storage-lab`, or `scripts/storage_lab test`, runs them there.

A test with the fixture ``backend`` runs with each of them, and says with ``shows`` which features it has seen to work;
a table of that ends the run.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import host
from tests.lab.backends import BACKENDS, FEATURES, LabBackend
from tests.lab.servers import LabServer
from tests.lab.volumes import LabClaim, MakeClaim

# They need kernel modules, targets and disks that only the guest has.
collect_ignore_glob = [] if os.environ.get("STORAGE_LAB_RESULTS") else ["test_*.py"]


SHOWN = pytest.StashKey[dict[str, set[str]]]()
"""Features that were seen to work, by backend."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHOWN] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        able = [backend for backend in BACKENDS if backend.runs(metafunc.definition.originalname)]
        names = [backend.name for backend in able]
        metafunc.parametrize("backend", able, ids=names, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test sets the storage of all up, for minutes."""
    if items and not collect_ignore_glob:
        items[0].add_marker(pytest.mark.timeout(1800))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    shown = config.stash[SHOWN]
    if not shown:
        return
    terminalreporter.section("backends and features")
    width = max(map(len, FEATURES))
    terminalreporter.write_line(" " * width + "".join(f"{name:>11}" for name in shown))
    by_name = {backend.name: backend for backend in BACKENDS}
    for feature in FEATURES:
        cells = ["pass" if feature in shown[name] else by_name[name].mark(feature) for name in shown]
        terminalreporter.write_line(f"{feature:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
    for name in shown:
        for feature, reason in by_name[name].lacks.items():
            terminalreporter.write_line(f"no {feature} with {name}: {reason}")


@pytest.fixture
def shows(backend: LabBackend, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes that a feature works with the backend."""

    def note(feature: str) -> None:
        assert feature in FEATURES
        request.config.stash[SHOWN].setdefault(backend.name, set()).add(feature)

    return note


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> LabBackend:
    """The backend that the test runs with."""
    backend: LabBackend = request.param
    return backend


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """The controller with all backends that this run needs, and the node."""
    selected = {item.callspec.params.get("backend") for item in request.session.items if hasattr(item, "callspec")}
    server = LabServer(tmp_path_factory.mktemp("server"), [backend for backend in BACKENDS if backend in selected])
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def server(lab: LabServer, backend: LabBackend) -> LabServer:
    """Controller and node, which attaches as the backend says."""
    lab.prepare(multipath=backend.multipath)
    return lab


@pytest.fixture
def claim(server: LabServer, backend: LabBackend, tmp_path: Path) -> Iterator[MakeClaim]:
    """Makes claims; at the end of the test nothing of them may be left, on the host or in the storage."""
    before = host.traces()
    claims: list[LabClaim] = []

    def make(name: str = "", **arguments: object) -> LabClaim:
        name = name or f"claim-{len(claims)}"
        claims.append(LabClaim(server, backend, tmp_path / name, name=f"{tmp_path.name}-{name}", **arguments))
        return claims[-1]

    yield make
    for claimed in reversed(claims):
        claimed.remove()
    host.nothing_is_left(before, backend.objects())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Failures are in the results at once, since a run is long."""
    if report.failed:
        with Path(os.environ["STORAGE_LAB_RESULTS"], "failures.txt").open("a") as file:
            file.write(f"{report.nodeid} ({report.when})\n{report.longreprtext}\n\n")
