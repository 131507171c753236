"""Nodes are drained, die and are deleted, in a real cluster: their pods' volumes come up elsewhere with their data."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, Object, claim, pod
from tests.cluster.page_commands import follow
from tests.support.pages import commands
from tests.support.polling import wait_until

LOST, OTHER = "node2", "node1"
PAGE = "docs/kubernetes.md"
_TAINT = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
_OF_NODES = "app.kubernetes.io/component=node"


@pytest.fixture(autouse=True)
def nodes(driver: Cluster) -> Iterator[None]:
    """Both nodes are as they were, whatever a test did to them."""
    yield
    if (driver.state / f"{LOST}.held").exists():
        driver.run("start", LOST)
    wait_ready(driver)
    driver.kubectl("uncordon", LOST, OTHER)
    driver.kubectl("taint", "node", LOST, f"{_TAINT}-", check=False)


def wait_ready(driver: Cluster) -> None:
    """The lost node is back, with the driver on it."""
    wait_until(
        lambda: "condition met" in driver.kubectl("wait", f"node/{LOST}", "--for=condition=Ready", check=False),
        lambda: driver.kubectl("describe", "node", LOST),
        timeout=120,
    )
    driver.kubectl("rollout", "status", "daemonset/cinderbox-node", "--timeout=60s")


def stateful_set(name: str, replicas: int) -> Object:
    """Pods that sleep, each with a claim of its own at /data."""
    template = pod(name, "unused")
    del template["spec"]["volumes"]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
            "volumeClaimTemplates": [claim("data")],
        },
    }


def start_on_lost_node(cluster: Cluster, replicas: int) -> list[str]:
    """Start a StatefulSet there and let each pod write its name; the ids of the volumes."""
    cluster.kubectl("cordon", OTHER)
    cluster.apply(stateful_set("shop", replicas))
    pods = [f"shop-{number}" for number in range(replicas)]
    cluster.kubectl("rollout", "status", "statefulset/shop", "--timeout=90s")
    for name in pods:
        assert cluster.node_of(name) == LOST
        cluster.exec(name, f"echo {name} > /data/file && sync")
    cluster.kubectl("uncordon", OTHER)
    return [cluster.volume_of(f"data-{name}") for name in pods]


def check_on_other_node(cluster: Cluster, replicas: int) -> None:
    for name in [f"shop-{number}" for number in range(replicas)]:
        wait_until(lambda name=name: _node(cluster, name) == OTHER, lambda: cluster.kubectl("get", "pods"), timeout=90)  # type: ignore[misc]
        cluster.wait_running(name)
        assert cluster.exec(name, "cat /data/file") == f"{name}\n"


def remove(cluster: Cluster, volumes: list[str]) -> None:
    cluster.delete("statefulset", "shop")
    cluster.kubectl("wait", "pod", "--all", "--for=delete", "--timeout=60s")
    cluster.kubectl("delete", "pvc", "--all", "--timeout=90s")
    cluster.wait_until_nothing_is_left(*volumes)


def _node(cluster: Cluster, name: str) -> str:
    """Where a pod is, or nothing before it is there."""
    found = cluster.get("pods", fields=f"metadata.name={name}")["items"]
    return str(found[0]["spec"].get("nodeName", "")) if found else ""


def attached_to_lost_node(cluster: Cluster) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.attachments() if one["spec"]["nodeName"] == LOST]


@pytest.mark.timeout(300)
def test_drain(cluster: Cluster, driver: Cluster) -> None:
    """The driver's pod, which ends at the same time, stays until the last volume is gone from the node."""
    volumes = start_on_lost_node(cluster, 2)
    cluster.kubectl("cordon", LOST)
    (found,) = driver.get("pods", labels=_OF_NODES, fields=f"spec.nodeName={LOST}")["items"]
    name, uid = found["metadata"]["name"], found["metadata"]["uid"]
    driver.kubectl("delete", "pod", name, "--wait=false")

    def stays() -> bool:
        return uid in [one["metadata"]["uid"] for one in driver.get("pods")["items"]]

    assert attached_to_lost_node(cluster) and stays()
    cluster.kubectl("drain", LOST, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
    staged = "ls /var/lib/cinderbox/*/node/volumes"
    is_there = True
    while not _is_empty(cluster.on_node(LOST, staged)):
        assert is_there, "the driver's pod went before the volumes did"
        is_there = stays()  # before volumes are looked for: between two answers both may go
    wait_until(lambda: not stays(), lambda: driver.kubectl("get", "pods"))
    wait_until(lambda: not attached_to_lost_node(cluster), lambda: attached_to_lost_node(cluster), timeout=60)
    check_on_other_node(cluster, 2)
    cluster.kubectl("uncordon", LOST)
    remove(cluster, volumes)


def _is_empty(listed: str) -> bool:
    return not listed.strip()


@pytest.mark.timeout(400)
def test_out_of_service(cluster: Cluster, driver: Cluster) -> None:
    """Power is cut, an admin says that the node is really off, and the volumes are taken from it; then it is back."""
    volumes = start_on_lost_node(cluster, 1)
    cut_power(cluster)
    follow(commands(PAGE, "its network alone - say so:"))
    wait_until(lambda: not attached_to_lost_node(cluster), lambda: attached_to_lost_node(cluster), timeout=90)
    check_on_other_node(cluster, 1)
    cluster.run("start", LOST)
    wait_ready(driver)
    follow(commands(PAGE, "Once it is back and its pods are gone:"))
    assert cluster.exec("shop-0", "cat /data/file") == "shop-0\n"
    remove(cluster, volumes)


@pytest.mark.timeout(400)
def test_deleted_node(cluster: Cluster, driver: Cluster) -> None:
    """Neither its Node nor its CSINode is there when the volume is to be detached from it: that is no error."""
    volumes = start_on_lost_node(cluster, 1)
    cut_power(cluster)
    (attachment,) = attached_to_lost_node(cluster)
    cluster.kubectl("delete", "node", LOST)
    cluster.kubectl("delete", "csinode", LOST, "--ignore-not-found")
    cluster.kubectl("delete", "pod", "shop-0", "--force", "--grace-period=0")
    # Kubernetes itself waits six minutes before it does this.
    cluster.kubectl("delete", "volumeattachment", attachment, "--timeout=60s")
    check_on_other_node(cluster, 1)
    # As Kubernetes does a minute later.
    of_node = ("-l", _OF_NODES, "--field-selector", f"spec.nodeName={LOST}")
    driver.kubectl("delete", "pod", *of_node, "--force", "--grace-period=0")
    cluster.run("start", LOST)
    wait_until(lambda: bool(driver.get("nodes", fields=f"metadata.name={LOST}")["items"]), driver.events, timeout=60)
    # It has looked for its Node before there was one, which it would take two minutes to get over.
    cluster.run("kill", f"{LOST}/kubelet")
    wait_ready(driver)
    remove(cluster, volumes)


def cut_power(cluster: Cluster) -> None:
    cluster.run("stop", LOST)
    cluster.kubectl("wait", f"node/{LOST}", "--for=condition=Ready=Unknown", "--timeout=60s")
