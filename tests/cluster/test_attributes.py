"""VolumeAttributesClasses in a real cluster: what of a claim can be changed in its life, and what can't."""

import json
from typing import Any

from tests.cluster.cluster import DRIVER_NAME, Cluster, Object, claim, pod
from tests.support.polling import wait_until


def attributes_class(name: str, **parameters: str) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttributesClass",
        "metadata": {"name": name},
        "driverName": DRIVER_NAME,
        "parameters": parameters,
    }


def change_class(cluster: Cluster, name: str) -> None:
    cluster.kubectl("patch", "pvc", "orders", "-p", json.dumps({"spec": {"volumeAttributesClassName": name}}))


def test_class_of_a_claim_changes_while_a_pod_writes(cluster: Cluster, driver: Cluster) -> None:
    slow, fast, wrong = (f"{name}-{cluster.namespace}" for name in ("slow", "fast", "wrong"))
    cluster.apply(
        attributes_class(slow, **{"extra_specs.example:tier": "silver"}),
        attributes_class(fast, **{"extra_specs.example:tier": "gold", "extra_specs.example:speed": "high"}),
        attributes_class(wrong, backend="elsewhere"),
        claim("orders", volumeAttributesClassName=slow),
        pod("shop", "orders"),
    )
    cluster.wait_running("shop")
    cluster.write("shop")
    volume = cluster.volume_of("orders")

    def spec() -> Any:
        return driver.get("cvol", volume)["spec"]

    assert spec()["extraSpecs"] == {"example:tier": "silver"}
    change_class(cluster, fast)
    cluster.wait("pvc/orders", f"jsonpath={{.status.currentVolumeAttributesClassName}}={fast}")
    assert spec()["extraSpecs"] == {"example:tier": "gold", "example:speed": "high"}
    assert cluster.exec("shop", "cat /data/file") == "precious\n"

    change_class(cluster, wrong)
    cluster.wait("pvc/orders", "jsonpath={.status.modifyVolumeStatus.status}=Infeasible")
    wait_until(lambda: "mutable_parameters: 'backend' is unknown" in cluster.events(), cluster.events)
    assert spec()["extraSpecs"] == {"example:tier": "gold", "example:speed": "high"}
    change_class(cluster, fast)  # the way back
    cluster.wait("pvc/orders", f"jsonpath={{.spec.volumeAttributesClassName}}={fast}")
    assert cluster.exec("shop", "cat /data/file") == "precious\n"
    cluster.delete("pod", "shop")
    cluster.delete("pvc", "orders")
    cluster.wait_until_gone(volume)
    cluster.delete("volumeattributesclass", slow, fast, wrong)
