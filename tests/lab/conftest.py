"""Tests inside the storage lab's guest: `make storage-lab`, or `scripts/storage_lab test`, runs them there.

A test of a feature has ``pytest.mark.feature`` and the fixture ``backend``, and runs with each backend that has it.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import ceph, host
from tests.lab.backends import BACKENDS, FEATURES, LabBackend
from tests.lab.volumes import LabClaim, MakeClaim
from tests.serving import Served

# They need kernel modules, targets and disks that only the guest has.
collect_ignore_glob = [] if os.environ.get("STORAGE_LAB_RESULTS") else ["test_*.py"]

MODULES = Path(__file__).parent / "modules"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(name): what a test of tests/lab shows of a backend")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("feature")
    if mark is not None:
        (feature,) = mark.args
        assert feature in FEATURES
        able = [backend for backend in BACKENDS if feature not in backend.lacks]
        names = [backend.name for backend in able]
        metafunc.parametrize("backend", able, ids=names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> LabBackend:
    """The backend that the test runs with, its storage made."""
    backend: LabBackend = request.param
    backend.make()
    return backend


@pytest.fixture(scope="session")
def server(backend: LabBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the backend; tests are sorted so that each has one, and one at a time."""
    server = Served(
        tmp_path_factory.mktemp(backend.name),
        persistence={"storage": "memory"},
        environment={
            "X_CSI_BACKEND_CONFIG": json.dumps(backend.settings),
            "CINDERBOX_REQUEST_MULTIPATH": str(backend.multipath).lower(),
            "PYTHONPATH": f"{MODULES}:{ceph.modules()}:{Path(__file__).parents[2]}",
        },
    )
    try:
        server.start(wait=False).wait_until_ready(timeout=300)
        yield server
    finally:
        server.close()


@pytest.fixture
def claim(server: Served, backend: LabBackend, tmp_path: Path) -> Iterator[MakeClaim]:
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
    assert host.traces() == before
    assert backend.objects() == []
    assert not any(host.exports().values()), host.exports()
