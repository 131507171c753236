"""What holds for all tests."""

import gc
import importlib
import subprocess
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.support.kubernetes_api import KubernetesAPI
from tests.support.mariadb import MariaDB
from tests.support.needs import mark_needs
from tests.support.postgresql import PostgreSQL
from tests.support.project import PROJECT

gc.disable()
"""What is loaded stays: looking through it again and again would be a third of the loading."""


def pytest_collection_finish() -> None:
    """From here on garbage is looked for among what tests make, and less often than where memory is short."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    if "csi_plugin.persistence.dbms" in sys.modules:  # else no test of this process opens one
        importlib.import_module("tests.support.quick_databases").install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skip as a failure: `make setup` provides what tests need, so a skipped test hides something."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which counts as a failure: {report.longrepr}"
    return report


_MADE_ON_THE_MACHINE = (Path("/var/lib/cinderbox"), Path("/etc/nvme"))
"""Folders that Cinder and os-brick make wherever they run, for their state and for the host's NVMe name."""
_ABSENT = pytest.StashKey[list[Path]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_ABSENT] = [path for path in _MADE_ON_THE_MACHINE if not path.exists()]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the machine as it was, when all workers have ended."""
    if not hasattr(session.config, "workerinput"):
        for path in session.config.stash[_ABSENT]:
            with suppress(OSError):  # it is not there, or something is in it
                path.rmdir()


class ByFile(LoadFileScheduling):
    """Files and classes go to the workers one by one, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        """What one worker runs together: a file, or the folders whose tests share one server; where a file has classes,
        one of these."""
        file, *names = nodeid.partition("[")[0].split("::")
        folder = file.rpartition("/")[0]
        return folder if folder in _TOGETHER else "::".join([file, *names[:-1]])


_TOGETHER = ("tests/cluster", "tests/node")
_FIRST = ("tests/cluster/", "tests/crash/")
"""They take longest, so that the workers end together. Of the rest, files that wait for programs on a new machine come
last; of those that come first the cluster's alone, which are the longest."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


_BUILT_FOR = {
    "tests/conformance": ("csi_sanity", "kubernetes"),
    "tests/crash/test_two_controllers.py": ("kubernetes",),  # by a parameter
    "tests/deploy/test_monitoring.py": ("promtool",),
    "tests/protocol/test_csi_proto.py": ("specification",),
}
"""What `scripts/setup build` builds or fetches for them; the rest has markers."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    for item in items:
        mark_needs(item)
    yield  # those that are not asked for are left out
    files = {item.path for item in items if _built_for(item)}
    items.sort(
        key=lambda item: (
            item.path in files and not item.nodeid.startswith("tests/cluster/"),
            *(not item.nodeid.startswith(folder) for folder in _FIRST),
        )
    )


def _built_for(item: pytest.Item) -> tuple[str, ...]:
    if item.nodeid.startswith("tests/lab"):  # its machine has them
        return ()
    for start, programs in _BUILT_FOR.items():
        if item.nodeid.startswith(start):
            return programs
    marked = any(item.get_closest_marker(name) for name in ("cluster", "kubernetes"))
    return ("kubernetes",) if marked else ()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout's, which is a wrapper, too
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """On a new machine programs are built while other tests run; no test's two minutes are spent waiting for them."""
    if programs := _built_for(item):
        _wait_for_built_programs(*programs)
    return (yield)


@cache
def _wait_for_built_programs(*programs: str) -> None:
    build = [PROJECT / "scripts/setup", "build", *programs]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode:
        warnings.warn(f"`scripts/setup build` failed, so tests will fail: {done.stderr[-2000:]}", stacklevel=1)


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
