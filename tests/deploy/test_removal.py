"""`cinderbox uninstall` beside another installation, whose names are alike, on a real API server."""

import subprocess
import sys
from typing import Any

import pytest

from csi_plugin.persistence.crd.kinds import resource_name
from tests.deploy.api_server import ApiServer
from tests.deploy.chart import RESTRICTED

pytestmark = pytest.mark.kubernetes
LEAVING, STAYING, COPY = "leaving", "staying", "default"
DRIVER = "leaving.example"


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer) -> ApiServer:
    """With two installations that differ in their namespaces and drivers alone."""
    for namespace in (LEAVING, STAYING):
        api_server.install(RESTRICTED | {"driverName": f"{namespace}.example"}, namespace=namespace)
        record(api_server, namespace, "CinderKeyValue", "cinderbox/instance", value=namespace)
        record(api_server, namespace, "CinderKeyValue", "cinderbox/driver-name", value=f"{namespace}.example")
        record(api_server, namespace, "CinderNode", "worker-1")
    return api_server


def record(cluster: ApiServer, namespace: str, kind: str, record_id: str, **spec: Any) -> None:
    metadata = {"name": resource_name(record_id), "namespace": namespace, "finalizers": ["cinderbox.io/record"]}
    body = {"apiVersion": "cinderbox.io/v1", "kind": kind, "metadata": metadata, "spec": {"id": record_id} | spec}
    cluster.apply([body])


def uninstall(cluster: ApiServer, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "csi_plugin.cli", "uninstall", f"--namespace={LEAVING}"]
    done = subprocess.run(
        [*command, f"--kubeconfig={cluster.kubeconfig}", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def what_is_there(cluster: ApiServer) -> dict[str, set[str]]:
    """Records and policies by namespace."""
    found: dict[str, set[str]] = {LEAVING: set(), STAYING: set()}
    kinds = "cvol,cnode,ckv,cbackend,validatingadmissionpolicies,validatingadmissionpolicybindings"
    for one in cluster.get(kinds, "--all-namespaces")["items"]:
        metadata = one["metadata"]
        for namespace, names in found.items():
            if metadata.get("namespace") == namespace or f"box-cinderbox-{namespace}-" in metadata["name"]:
                names.add(f"{one['kind']}/{metadata['name']}")
    return found


def test_one_of_two_installations_goes(cluster: ApiServer) -> None:
    """By hand, with the label of the release, it took the other's policies along, and with the CRDs its records."""
    csi = {"driver": DRIVER, "volumeHandle": "volume-1"}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": csi}
    cluster.create({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-leaving"}, "spec": spec})
    record(cluster, LEAVING, "CinderVolume", "volume-1", size=1)
    record(cluster, COPY, "CinderKeyValue", "cinderbox/instance", value=LEAVING)  # which no controller serves
    status, text = uninstall(cluster, "--yes")
    assert status == 1
    for obstacle in (
        "Deployment box-cinderbox-controller is there: helm uninstall box --namespace leaving",
        "DaemonSet box-cinderbox-node is there",
        f"1 PersistentVolumes are of {DRIVER} (pv-leaving)",
        "1 volumes are on the storage (volume-1)",
    ):
        assert obstacle in text, obstacle
    copied = ("ckv", resource_name("cinderbox/instance"), "-n", COPY)
    cluster.kubectl("patch", *copied, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    cluster.kubectl("delete", *copied)
    cluster.kubectl("delete", "deployment,daemonset", "--all", "-n", LEAVING)
    cluster.kubectl("patch", "pv", "pv-leaving", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    cluster.kubectl("delete", "pv", "pv-leaving")
    status, text = uninstall(cluster)
    assert (status, text.count("in the way")) == (1, 1), text  # the volume on the storage

    before = what_is_there(cluster)
    status, text = uninstall(cluster, "--leave-volumes")
    assert status == 0
    assert "would be removed: CinderVolume volume-1" in text
    assert "would be removed: ValidatingAdmissionPolicy box-cinderbox-leaving-definitions" in text
    assert "staying-" not in text
    assert "stays: the CRDs of cinderbox.io" in text
    assert what_is_there(cluster) == before

    status, text = uninstall(cluster, "--leave-volumes", "--yes")
    assert status == 0, text
    assert what_is_there(cluster) == {LEAVING: set(), STAYING: before[STAYING]}
    cluster.kubectl("get", "crd", "cindervolumes.cinderbox.io")
    assert "is a record of what is on the storage" in cluster.refusal("delete", "cnode", "worker-1", "-n", STAYING)


def test_what_was_moved_is_the_other_namespaces(cluster: ApiServer) -> None:
    """Volumes and PersistentVolumes of the driver are in use there, and only the records here go."""
    for key, value in (("cinderbox/instance", STAYING), ("cinderbox/driver-name", "staying.example")):
        record(cluster, LEAVING, "CinderKeyValue", key, value=value)
    record(cluster, LEAVING, "CinderVolume", "volume-2", size=1)
    status, text = uninstall(cluster)
    assert status == 0, text
    assert "would be removed: CinderVolume volume-2" in text
    assert f"namespace {STAYING} goes on with them" in text
    assert uninstall(cluster, "--yes")[0] == 0
