"""Kubernetes' own controllers on a real API server: neither a namespace's deletion nor the garbage collector ends
records, or the keys that seal them.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.api_server import ApiServer
from tests.deploy.chart import RESTRICTED
from tests.support.kubernetes_api import BINARIES
from tests.support.polling import wait_until

NAMESPACE = "doomed"
CONTROLLER = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-controller"


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With the release in a namespace, and the controllers that delete things."""
    api_server.install(RESTRICTED | {"driverName": "doomed.example"}, namespace=NAMESPACE)
    command: list[str | Path] = [
        BINARIES / "kube-controller-manager",
        f"--kubeconfig={api_server.kubeconfig}",
        "--controllers=namespace-controller,garbage-collector-controller",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    with (tmp_path_factory.mktemp("controllers") / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield api_server
        finally:
            process.kill()
            process.wait()


def record(name: str, **metadata: Any) -> dict[str, Any]:
    whole = {"name": name, "namespace": NAMESPACE, "finalizers": ["cinderbox.io/record"], **metadata}
    return {
        "apiVersion": "cinderbox.io/v1",
        "kind": "CinderVolume",
        "metadata": whole,
        "spec": {"id": name, "size": 1},
    }


def test_records_outlive_what_owns_them_and_their_namespace(cluster: ApiServer) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": NAMESPACE}}
    cluster.apply([owner])
    uid = cluster.get("configmap", "owner", "-n", NAMESPACE)["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    cluster.create(record("owned", ownerReferences=[reference]), CONTROLLER)
    dependant = {"name": "dependant", "namespace": NAMESPACE, "ownerReferences": [reference]}
    cluster.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": dependant}])
    cluster.kubectl("delete", "configmap", "owner", "-n", NAMESPACE)

    def is_gone(*what: str) -> bool:
        return cluster.try_kubectl("get", *what).returncode != 0

    wait_until(lambda: is_gone("configmap", "dependant", "-n", NAMESPACE), lambda: "the garbage collector", timeout=60)

    cluster.create(record("free"), CONTROLLER)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")

    def failure() -> str:
        conditions = cluster.get("namespace", NAMESPACE)["status"].get("conditions", [])
        return " ".join(c["message"] for c in conditions if c["type"] == "NamespaceDeletionContentFailure")

    wait_until(
        lambda: "is a record of what is on the storage" in failure(),
        lambda: "the namespace controller to be refused",
        timeout=60,
    )
    volumes = cluster.get("cvol", "-n", NAMESPACE)["items"]
    assert {volume["metadata"]["name"] for volume in volumes} == {"owned", "free"}
    assert cluster.get("secret", "box-cinderbox-sealing", "-n", NAMESPACE)["data"]
    assert [v for v in volumes if "deletionTimestamp" in v["metadata"]] == []

    # A person decides.
    cluster.kubectl("annotate", "cvol,ckv", "--all", "-n", NAMESPACE, "cinderbox.io/allow-delete=true")
    for name in ("owned", "free"):
        cluster.kubectl("delete", "cvol", name, "-n", NAMESPACE, "--wait=false")
        removal = ("--type=merge", '--patch={"metadata": {"finalizers": null}}')
        cluster.try_kubectl("patch", "cvol", name, "-n", NAMESPACE, *removal)
    cluster.kubectl("annotate", "secret", "box-cinderbox-sealing", "-n", NAMESPACE, "cinderbox.io/allow-delete=true")
    wait_until(lambda: is_gone("namespace", NAMESPACE), lambda: "the namespace to go", timeout=60)
