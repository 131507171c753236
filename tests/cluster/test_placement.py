"""Several backends in several places: claims go where there is room and where their pod can run.

In a release of its own, beside the one that the other tests use.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import DRIVER_NAME, Cluster, claim, pod
from tests.cluster.releases import HOST_PATH, host_values, release
from tests.support.polling import wait_until

NAME = "zones"
PLACES = {"node1": 3, "node2": 6}
"""GiB of each node's own storage."""
TOPOLOGY = "topology.cinderbox.io/node"
LIMIT = 2
WAIT = "WaitForFirstConsumer"


@pytest.fixture(scope="module")
def zones(driver: Cluster) -> Iterator[Cluster]:
    folder = HOST_PATH.format(name=NAME)
    values = host_values(NAME, 1)
    values["backends"] = [
        {
            "name": f"of-{node}",
            "driver": "csi_plugin.storage.drivers.loop.LoopDriver",
            "topology": [{TOPOLOGY: node}],
            "options": {
                "loop_volumes_dir": f"{folder}/{node}",
                "max_over_subscription_ratio": "1.0",
                "reserved_percentage": 0,
            },
        }
        for node in PLACES
    ]
    values["node"] |= {"topology": {TOPOLOGY: "$(NODE_NAME)"}, "maxVolumes": LIMIT}
    arguments = values["sidecars"]["provisioner"]["extraArgs"]
    values["sidecars"]["provisioner"] = {"extraArgs": [*arguments, "--capacity-poll-interval=2s"]}
    values["storageClasses"] = [{"name": NAME}]
    for node, gib in PLACES.items():
        driver.run("enter", "mkdir", "-p", f"{folder}/{node}")
        driver.run("enter", "mount", "-t", "tmpfs", "-o", f"size={gib}g", "tmpfs", f"{folder}/{node}")
    with release(NAME, values) as cluster:
        yield cluster
    for node in PLACES:
        driver.run("enter", "umount", f"{folder}/{node}")


@pytest.fixture
def place(zones: Cluster, cluster: Cluster) -> Cluster:
    wait_until(lambda: capacities(zones) == PLACES, lambda: f"{capacities(zones)}\n{zones.events()}", timeout=60)
    return cluster


def capacities(zones: Cluster) -> dict[str, int]:
    """GiB that the scheduler sees for the class, by node."""
    found: dict[str, int] = {}
    for one in zones.get("csistoragecapacity")["items"]:
        node = one["nodeTopology"]["matchLabels"][TOPOLOGY]
        assert node not in found
        assert one["storageClassName"] == NAME
        found[node] = int(one.get("maximumVolumeSize", one["capacity"]).removesuffix("Gi"))
    return found


def why_pending(cluster: Cluster, name: str) -> str:
    conditions: list[Any] = cluster.get("pod", name).get("status", {}).get("conditions", [])
    return " ".join(one.get("message", "") for one in conditions if one["type"] == "PodScheduled")


def remove(cluster: Cluster, zones: Cluster) -> None:
    volumes = [
        cluster.volume_of(one["metadata"]["name"]) for one in cluster.get("pvc")["items"] if "volumeName" in one["spec"]
    ]
    cluster.kubectl("delete", "pod", "--all")
    cluster.kubectl("delete", "pvc", "--all")
    wait_until(lambda: not {one["metadata"]["name"] for one in zones.get("cvol")["items"]} & set(volumes), zones.events)


def test_claim_goes_where_its_pod_runs(place: Cluster, zones: Cluster) -> None:
    for number, node in enumerate(PLACES):
        place.apply(claim(f"data-{number}", storageClassName=NAME), pod(f"pod-{number}", f"data-{number}", node=node))
    for number, node in enumerate(PLACES):
        place.wait_running(f"pod-{number}")
        place.write(f"pod-{number}")
        volume = place.volume_of(f"data-{number}")
        assert zones.get("cvol", volume)["status"]["backend"] == f"of-{node}"
        affinity = place.get("pv", place.get("pvc", f"data-{number}")["spec"]["volumeName"])["spec"]["nodeAffinity"]
        ((expression,),) = [one["matchExpressions"] for one in affinity["required"]["nodeSelectorTerms"]]
        assert expression == {"key": TOPOLOGY, "operator": "In", "values": [node]}
    less = {node: gib - 1 for node, gib in PLACES.items()}
    wait_until(lambda: capacities(zones) == less, lambda: str(capacities(zones)))
    remove(place, zones)


def test_claim_that_is_too_large_for_one_place_goes_to_another(place: Cluster, zones: Cluster) -> None:
    place.apply(claim("large", gib=5, storageClassName=NAME), pod("anywhere", "large"))
    place.wait_running("anywhere")
    assert place.node_of("anywhere") == "node2"
    place.write("anywhere")
    place.apply(claim("more", gib=4, storageClassName=NAME), pod("waiting", "more"))
    wait_until(lambda: "did not have enough free storage" in why_pending(place, "waiting"), place.events)
    place.delete("pod", "anywhere")
    place.delete("pvc", "large")
    # As soon as there is room again, by itself.
    place.wait_running("waiting")
    assert place.node_of("waiting") == "node2"
    remove(place, zones)


def test_node_takes_no_more_volumes_than_its_limit(place: Cluster, zones: Cluster) -> None:
    (of_driver,) = [one for one in place.get("csinode", "node1")["spec"]["drivers"] if one["name"] == f"{NAME}.example"]
    assert of_driver["allocatable"] == {"count": LIMIT}
    for number in range(LIMIT + 1):
        place.apply(
            claim(f"data-{number}", storageClassName=NAME), pod(f"pod-{number}", f"data-{number}", node="node1")
        )
        if number < LIMIT:
            place.wait_running(f"pod-{number}")
    wait_until(lambda: "exceed max volume count" in why_pending(place, f"pod-{LIMIT}"), place.events)
    place.delete("pod", "pod-0")
    place.wait_running(f"pod-{LIMIT}")
    remove(place, zones)


def test_pod_uses_volumes_of_two_releases(place: Cluster, zones: Cluster) -> None:
    both = pod("both", "near")
    both["spec"]["volumes"].append({"name": "other", "persistentVolumeClaim": {"claimName": "far"}})
    both["spec"]["containers"][0]["volumeMounts"].append({"name": "other", "mountPath": "/other"})
    place.apply(claim("near", storageClassName=NAME), claim("far"), both)
    place.wait_running("both")
    place.write("both")
    place.exec("both", "echo too > /other/file && sync")
    assert place.exec("both", "cat /data/file /other/file") == "precious\ntoo\n"
    near, far = place.volume_of("near"), place.volume_of("far")
    assert near in zones.kubectl("get", "cvol", "-o", "name")
    assert far not in zones.kubectl("get", "cvol", "-o", "name")
    remove(place, zones)
    place.wait_until_gone(far)


def test_room_of_storage_that_every_node_reaches(cluster: Cluster, driver: Cluster) -> None:
    """Nodes that were told of no topology have a segment in common, and volumes have no node affinity."""
    name = f"later-{cluster.namespace}"
    later = driver.get("storageclass", "loop") | {"metadata": {"name": name}, "volumeBindingMode": WAIT}
    cluster.apply(later)

    def room() -> list[Any]:
        return [one for one in driver.get("csistoragecapacity")["items"] if one["storageClassName"] == name]

    wait_until(lambda: bool(room()), driver.events, timeout=60)
    (only,) = room()
    assert only["nodeTopology"] == {"matchLabels": {f"{DRIVER_NAME}/reach": "all"}}
    cluster.apply(claim("data", storageClassName=name), pod("first", "data", node="node2"))
    cluster.wait_running("first")
    cluster.write("first")
    assert "nodeAffinity" not in cluster.get("pv", cluster.get("pvc", "data")["spec"]["volumeName"])["spec"]
    cluster.delete("pod", "first")
    cluster.apply(pod("second", "data", node="node1"))
    cluster.wait_running("second")
    assert cluster.exec("second", "cat /data/file") == "precious\n"
    volume = cluster.volume_of("data")
    cluster.kubectl("delete", "pod", "--all")
    cluster.kubectl("delete", "pvc", "--all")
    cluster.wait_until_gone(volume)
    assert {one["metadata"]["uid"] for one in room()} == {only["metadata"]["uid"]}
    cluster.delete("storageclass", name)
    wait_until(lambda: not room(), driver.events, timeout=60)


def test_second_release_in_a_namespace_is_refused(zones: Cluster) -> None:
    values = json.dumps(host_values("another", 5))
    refused = zones.run(
        *("helm", "install", "another", "deploy/helm/cinderbox", "-n", NAME, "-f", "-"), input_text=values, check=False
    )
    assert "namespace zones already has release zones of cinderbox" in refused
