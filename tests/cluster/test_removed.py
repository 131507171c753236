"""What takes the driver away leaves the data: its release, its definitions, its namespace."""

import json
from typing import Any

import pytest

from tests.cluster.cluster import CHART, Cluster, claim, pod
from tests.cluster.releases import HOST_PATH, helm_install, host_values, release, remove, remove_records
from tests.support.polling import wait_until

GONE, FOUND = "gone", "found"
_STALE = ("namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
"""Metadata that a copy in another namespace must not have."""


@pytest.mark.timeout(240)
def test_release_is_uninstalled_and_installed_again(cluster: Cluster, driver: Cluster) -> None:
    """A pod uses its volume all the while; definitions of records can't be deleted under them."""
    values = host_values("again", 4)
    with release("again", values) as installed:
        volume = start(cluster, "again")
        installed.run("helm", "uninstall", "again", "--namespace", "again", "--wait")
        assert [one["metadata"]["name"] for one in installed.get("cvol")["items"]] == [volume]
        refused = installed.run("kubectl", "delete", "-f", f"{CHART}/crds/", "--wait=false", check=False)
        assert refused.count("cinderbox.io/allow-delete=true") == len(list((CHART / "crds").iterdir()))
        check(cluster, volume, "again")

        helm_install("again", values, "--wait", "--timeout=120s")
        end(cluster, installed)


@pytest.mark.timeout(400)
def test_namespace_is_deleted_and_its_records_serve_in_another(cluster: Cluster, driver: Cluster) -> None:
    values = host_values(GONE, 5)
    old, new = Cluster(GONE), Cluster(FOUND)
    driver.run("kubectl", "create", "namespace", GONE)
    helm_install(GONE, values, "--wait", "--timeout=120s")
    volume = start(cluster, GONE)
    driver.run("kubectl", "delete", "namespace", GONE, "--wait=false")
    wait_until(lambda: not old.get("pods")["items"], lambda: old.kubectl("get", "pods"), timeout=90)
    assert old.get("namespace", GONE)["status"]["phase"] == "Terminating"
    check(cluster, volume, GONE)

    driver.run("kubectl", "create", "namespace", FOUND)
    left = (*old.get("cinderbox")["items"], *old.get("secrets", fields="type=Opaque")["items"])
    copied = [copy_of(one) for one in left]
    new.kubectl("create", "-f", "-", input_text=json.dumps({"apiVersion": "v1", "kind": "List", "items": copied}))
    taking = ("--take-ownership", "--force-conflicts", "--wait", "--timeout=120s")
    helm_install(GONE, values, *taking, namespace=FOUND)
    end(cluster, new)
    remove(GONE, namespace=FOUND)
    remove_records(old)
    # Kubernetes looks again at what keeps a namespace after a while that grows.
    old.run("kubectl", "wait", f"namespace/{GONE}", "--for=delete", "--timeout=150s")


def start(cluster: Cluster, storage_class: str) -> str:
    """A pod with a file on a volume; the id of the volume."""
    cluster.apply(claim("orders", storageClassName=storage_class), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.write("shop")
    return cluster.volume_of("orders")


def check(cluster: Cluster, volume: str, name: str) -> None:
    """The volume is on the storage, and of use to its pod."""
    assert f"volume-{volume}" in cluster.run("enter", "ls", HOST_PATH.format(name=name))
    assert cluster.exec("shop", "echo more >> /data/file && cat /data/file") == "precious\nmore\n"


def end(cluster: Cluster, installed: Cluster) -> None:
    """What the old driver mounted is unmounted by the new one, which serves the data and deletes the volume."""
    cluster.delete("pod", "shop")
    cluster.apply(pod("other", "orders"))
    cluster.wait_running("other")
    assert cluster.exec("other", "cat /data/file") == "precious\nmore\n"
    cluster.delete("pod", "other")
    cluster.delete("pvc", "orders")
    wait_until(lambda: not installed.get("cvol")["items"], installed.events, timeout=60)


def copy_of(resource: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in resource["metadata"].items() if name not in _STALE}
    return {name: value for name, value in resource.items() if name != "status"} | {"metadata": kept}
