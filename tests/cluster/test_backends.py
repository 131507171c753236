"""Backends that people change by kubectl in a real cluster, while claims come and go."""

import json
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, claim, pod
from tests.support.polling import wait_until


def edit(driver: Cluster, spec: dict[str, Any]) -> None:
    driver.kubectl("patch", "cbackend", "loop", "--type=merge", "-p", json.dumps({"spec": spec}))


def status(driver: Cluster) -> Any:
    return driver.get("cbackend", "loop")["status"]


def wait_in_force(driver: Cluster) -> None:
    generation = driver.get("cbackend", "loop")["metadata"]["generation"]
    wait_until(lambda: status(driver)["observedGeneration"] == generation, lambda: status(driver))
    driver.wait("cbackend/loop", "condition=UpToDate")


def restarts(driver: Cluster) -> list[int]:
    pods = driver.get("pod", labels="app.kubernetes.io/component=controller")["items"]
    return [container["restartCount"] for each in pods for container in each["status"]["containerStatuses"]]


@pytest.mark.timeout(300)
def test_a_backend_is_edited_while_claims_come_and_go(cluster: Cluster, driver: Cluster) -> None:
    before = restarts(driver)
    volumes = []
    changes: list[tuple[dict[str, Any], bool]] = [
        ({"reserved_percentage": 1}, True),
        ({"reserved_percentage": "none"}, False),
        ({"reserved_percentage": 2}, True),
        ({"no_such_option": "x"}, False),
        ({"reserved_percentage": None, "no_such_option": None}, True),
    ]
    for number, (options, works) in enumerate(changes):
        name = f"claim-{number}"
        cluster.apply(claim(name), pod(name, name), claim(f"{name}-too"))
        edit(driver, {"options": options})
        if works:
            wait_in_force(driver)
        else:
            driver.wait("cbackend/loop", "condition=UpToDate=False")
            assert next(iter(options)) in status(driver)["lastError"]
        driver.wait("cbackend/loop", "condition=Ready")
        cluster.wait_running(name)
        cluster.wait(f"pvc/{name}-too", "jsonpath={.status.phase}=Bound")
        volumes += [cluster.volume_of(name), cluster.volume_of(f"{name}-too")]
        cluster.kubectl("delete", "pod", name, "--wait=false")
        cluster.kubectl("delete", "pvc", name, f"{name}-too", "--wait=false")
    cluster.wait_until_gone(*volumes)
    assert restarts(driver) == before


def test_a_suspended_backend_lets_claims_wait(cluster: Cluster, driver: Cluster) -> None:
    edit(driver, {"suspend": True})
    try:
        wait_until(
            lambda: status(driver)["conditions"][0]["reason"] == "Suspended",
            lambda: status(driver),
        )
        cluster.apply(claim("waiting"))
        wait_until(lambda: "backend loop is suspended: it takes no new volumes" in cluster.events(), cluster.events)
    finally:
        edit(driver, {"suspend": False})
    cluster.wait("pvc/waiting", "jsonpath={.status.phase}=Bound")
    volume = cluster.volume_of("waiting")
    cluster.delete("pvc", "waiting")
    cluster.wait_until_gone(volume)
