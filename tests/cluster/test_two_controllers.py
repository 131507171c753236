"""Two controllers on two nodes, in a real cluster: whatever happens to the active one, the other goes on."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.cluster import Cluster, claim, install
from tests.support.polling import wait_until

REFUSALS = 15 + 3
"""How often the other controller is refused the lease of one that has gone: it asks once a second until it runs out,
which is after 15 seconds."""
_CLAIMS = 8
_LABELS = {"app.kubernetes.io/name": "cinderbox", "app.kubernetes.io/component": "controller"}
_APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": _LABELS}}
        ]
    }
}
# Both nodes have the storage: neither has to be named.
_PAIR = (
    *("--set", "controller.replicas=2", "--set", "controller.nodeSelector=null"),
    *("--set-json", f"controller.affinity={json.dumps(_APART)}"),
)
_CONTROLLERS = "app.kubernetes.io/component=controller"


@pytest.fixture(scope="module")
def pair(driver: Cluster) -> Iterator[Cluster]:
    """The namespace of the driver, with two controllers."""
    install(driver, *_PAIR)
    yield driver
    install(driver)


@pytest.fixture(autouse=True)
def both(pair: Cluster) -> Iterator[None]:
    yield
    pair.kubectl("rollout", "status", "deployment/cinderbox-controller", "--timeout=120s")


def active(driver: Cluster) -> str:
    """The pod of the active controller. On the host's network, it is called what its node is."""
    holder = driver.get("lease", "cinderbox-controller")["spec"]["holderIdentity"]
    pods = driver.get("pod", labels=_CONTROLLERS)["items"]
    return next(
        (str(one["metadata"]["name"]) for one in pods if one["spec"].get("nodeName") == holder.partition("/")[0]), ""
    )


def standby(driver: Cluster) -> str:
    """The pod of the controller that waits for the lease."""
    found = [one["metadata"] for one in driver.get("pod", labels=_CONTROLLERS)["items"]]
    (name,) = {str(one["name"]) for one in found if "deletionTimestamp" not in one} - {active(driver)}
    return name


def refusals(driver: Cluster, pod: str) -> int:
    """How often a controller has asked for the lease and was refused."""
    return driver.kubectl("logs", pod, "-c", "cinderbox").count("another controller holds the lease")


def transitions(driver: Cluster) -> int:
    """How often the lease has changed hands."""
    return int(driver.get("lease", "cinderbox-controller")["spec"]["leaseTransitions"])


def under_load(cluster: Cluster, pair: Cluster, fault: Callable[[], None]) -> list[str]:
    """Cause a fault while claims are created and deleted; the ids of the volumes that are there in the end.

    The other controller takes over once, as soon as the lease has run out, and claims that are created after the fault
    are bound, each to one volume.
    """
    before, after = ([f"{when}-{number}" for number in range(_CLAIMS)] for when in ("before", "after"))
    deleted = [f"deleted-{number}" for number in range(_CLAIMS)]
    cluster.apply(*(claim(name) for name in deleted))
    cluster.kubectl("wait", "pvc", "--all", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s")
    cluster.apply(*(claim(name) for name in before))
    cluster.kubectl("delete", "pvc", *deleted, "--wait=false")
    other = standby(pair)
    refused, changed = refusals(pair, other), transitions(pair)
    fault()
    cluster.apply(*(claim(name) for name in after))
    cluster.kubectl("wait", f"pvc/{after[0]}", "--for=jsonpath={.status.phase}=Bound", "--timeout=120s")
    # A pod that replaces the active one on its node may go on with its lease.
    assert transitions(pair) - changed <= 1
    if active(pair) == other:
        assert refusals(pair, other) - refused <= REFUSALS
    cluster.kubectl("wait", "pvc", "--all", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s")
    return [cluster.volume_of(name) for name in (*before, *after)]


def end(cluster: Cluster, volumes: list[str]) -> None:
    cluster.wait_until_only_these_are_left(*volumes)
    cluster.kubectl("delete", "pvc", "--all", "--timeout=90s")
    cluster.wait_until_nothing_is_left(*volumes)


@pytest.mark.timeout(300)
def test_killed(cluster: Cluster, pair: Cluster) -> None:
    name = active(pair)

    def kill() -> None:
        pair.signal(name, "KILL")
        pair.kubectl("delete", "pod", name, "--force", "--grace-period=0")

    volumes = under_load(cluster, pair, kill)
    assert active(pair) != name
    end(cluster, volumes)


@pytest.mark.timeout(300)
def test_frozen_and_resumed(cluster: Cluster, pair: Cluster) -> None:
    """As with the whole pod, sidecars and all, on a machine that stands still."""
    name = active(pair)
    restarts = _restarts(pair, name)
    try:
        volumes = under_load(cluster, pair, lambda: pair.signal(name, "STOP"))
        assert active(pair) != name
    finally:
        pair.signal(name, "CONT")
    wait_until(lambda: _restarts(pair, name) > restarts, lambda: "the old controller goes on as before")
    assert active(pair) != name
    end(cluster, volumes)


@pytest.mark.timeout(300)
def test_hung(cluster: Cluster, pair: Cluster) -> None:
    """The driver alone stands still, while its sidecars live and lead: kubelet has to find out."""
    name = active(pair)
    volumes = under_load(cluster, pair, lambda: pair.signal(name, "STOP", "cinderbox"))
    assert active(pair) != name
    end(cluster, volumes)


@pytest.mark.timeout(300)
def test_cut_from_the_api_server(cluster: Cluster, pair: Cluster) -> None:
    name = active(pair)
    node = pair.node_of(name)
    rule = "OUTPUT -p tcp --dport 6443 -j DROP"
    try:
        volumes = under_load(cluster, pair, lambda: pair.on_node(node, f"iptables -I {rule}") and None)
        assert active(pair) != name
    finally:
        pair.on_node(node, f"iptables -D {rule}")
    pair.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=60s")
    end(cluster, volumes)


def _restarts(driver: Cluster, pod: str) -> int:
    statuses = driver.get("pod", pod)["status"]["containerStatuses"]
    return int(next(one["restartCount"] for one in statuses if one["name"] == "cinderbox"))
