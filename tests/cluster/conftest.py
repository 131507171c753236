"""One cluster for all tests of this folder, with the chart installed in it.

It is taken down after the last of them; with KEEP_CLUSTER in the environment it stays up, and the next run
goes on with it.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cluster.cluster import NAMESPACE, Cluster, install
from tests.cluster.traces import Traces
from tests.support.project import PROJECT

HERE = Path(__file__).parent
LIMIT = 120
"""Seconds that a test has by itself."""
collect_ignore = [] if os.environ.get("CLUSTER_FAMILY") == "ipv6" else ["test_ipv6.py"]
START_LIMIT = 1200
"""Seconds for the start, before which images are built."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            own = item.get_closest_marker("timeout")
            item.add_marker(pytest.mark.timeout(own.args[0] if own else LIMIT, func_only=True), append=False)


@pytest.fixture(scope="package")
def running() -> Iterator[None]:
    """A cluster that runs. Taking it down leaves nothing behind on the machine."""
    traces = Traces()
    script = PROJECT / "scripts/cluster"
    try:
        up = subprocess.run(
            [script, "up"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=START_LIMIT
        )
        assert up.returncode == 0, f"scripts/cluster up: {up.stdout}{up.stderr}"
        traces.of_running_cluster()
        yield
    finally:
        if "KEEP_CLUSTER" not in os.environ:
            subprocess.run([script, "down"], check=True)
    if "KEEP_CLUSTER" not in os.environ:
        assert traces.left() == []


@pytest.fixture(scope="package")
def driver(running: None) -> Cluster:
    """The namespace of the driver, which serves."""
    cluster = Cluster(NAMESPACE)
    cluster.run("kubectl", "create", "namespace", NAMESPACE, check=False)
    install(cluster)
    return cluster


@contextmanager
def namespace() -> Iterator[Cluster]:
    made = Cluster(f"test-{uuid4().hex[:8]}")
    made.run("kubectl", "create", "namespace", made.namespace)
    # Pods are refused before it is there, which is a matter of the controller manager's load.
    made.wait("serviceaccount/default", "create")
    made.files_before = made.files()
    yield made
    made.run("kubectl", "delete", "namespace", made.namespace, "--wait=false")


@pytest.fixture
def cluster(driver: Cluster) -> Iterator[Cluster]:
    """A namespace for a test, emptied after it."""
    with namespace() as made:
        yield made


@pytest.fixture
def other(driver: Cluster) -> Iterator[Cluster]:
    """One more namespace."""
    with namespace() as made:
        yield made
