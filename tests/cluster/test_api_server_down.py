"""The API server is away for longer than any lease while claims are made, in a real cluster."""

import time

import pytest

from tests.cluster.cluster import Cluster, claim, pod

SECONDS = 15
"""Who leads for 8 or 10 seconds at a time leads no more."""
CLAIMS = 12


@pytest.mark.timeout(300)
def test_claims_under_way_are_bound_afterwards(cluster: Cluster) -> None:
    names = [f"claim-{number}" for number in range(CLAIMS)]
    # Pods make kubelet and the attacher go on in the middle, too.
    cluster.apply(*(claim(name) for name in names), *(pod(name, name) for name in names[:4]))
    cluster.run("stop", "kube-apiserver")
    time.sleep(SECONDS)
    cluster.run("start", "kube-apiserver")
    cluster.wait_for_api_server()

    cluster.kubectl("wait", "pvc", "--all", "--for=jsonpath={.status.phase}=Bound", "--timeout=120s")
    cluster.kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=120s")
    for name in names[:4]:
        cluster.exec(name, "echo precious > /data/file && sync")
    volumes = [cluster.volume_of(name) for name in names]
    assert len(set(volumes)) == CLAIMS
    cluster.wait_until_only_these_are_left(*volumes)
    cluster.kubectl("delete", "pod", "--all", "--timeout=90s")
    cluster.kubectl("delete", "pvc", "--all", "--timeout=90s")
    cluster.wait_until_nothing_is_left(*volumes)
