"""The cluster is started once, and the chart installed in it; `make test-cluster` runs these tests."""

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.cluster.cluster import NAMESPACE, PROJECT, Cluster

# Images are built and a whole cluster runs: not a part of every test run.
collect_ignore_glob = [] if os.environ.get("CINDERBOX_TEST_CLUSTER") else ["test_*.py"]


@pytest.fixture(scope="session")
def driver() -> Cluster:
    """The namespace of the driver, which serves."""
    cluster = Cluster(NAMESPACE)
    cluster.run("kubectl", "create", "namespace", NAMESPACE, check=False)
    cluster.run(
        *("helm", "upgrade", "--install", "cinderbox", str(PROJECT / "deploy/helm/cinderbox")),
        *("--namespace", NAMESPACE, "--values", str(PROJECT / "tests/cluster/values.yaml")),
        *("--wait", "--timeout", "120s"),
    )
    return cluster


@pytest.fixture
def cluster(driver: Cluster) -> Iterator[Cluster]:
    """A namespace for a test, emptied after it."""
    made = Cluster(f"test-{uuid4().hex[:8]}")
    made.run("kubectl", "create", "namespace", made.namespace)
    yield made
    made.run("kubectl", "delete", "namespace", made.namespace, "--wait=false")
