"""The sidecars with the chart's arguments and rights, before a controller with its rights: a claim gets its volume, and
can be set back where no room is; a snapshot that found none can be deleted."""

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.topology import everywhere
from tests.deploy.api_server import ApiServer
from tests.deploy.chart import Object, one, render
from tests.support.kubernetes_api import BINARIES
from tests.support.polling import wait_until
from tests.support.project import PROJECT

NAMESPACE = "sidecars"
DRIVER = "sidecars.example"
SEGMENT = everywhere(DRIVER)
"""What nodes have that are told of no topology."""
SIDECARS = {
    "provisioner": "csi-provisioner",
    "attacher": "csi-attacher",
    "resizer": "csi-resizer",
    "snapshotter": "csi-snapshotter",
}


def values(volumes: Path) -> Object:
    loop = {
        "name": "loop",
        "driver": "tests.controller.drivers.FullDriver",  # no snapshot finds room
        "options": {"loop_volumes_dir": str(volumes)},
    }
    return {
        "driverName": DRIVER,
        "backends": [loop],
        "hostPaths": [str(volumes)],
        "controller": {"profile": "host", "nodeSelector": {"kubernetes.io/hostname": "storage-1"}},
        "storageClasses": [
            {"name": "sidecars", "parameters": {"backend": "loop"}, "volumeBindingMode": "Immediate"},
            {"name": "sidecars-later", "parameters": {"backend": "loop"}},  # the scheduler asks for its capacity
        ],
    }


@contextlib.contextmanager
def running(command: list[str | Path], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def cluster(api_server: ApiServer, tmp_path: Path) -> ApiServer:
    for file in sorted((PROJECT / ".tools/kubernetes/crds").glob("*.storage.k8s.io_*.yaml")):
        api_server.apply(file.read_text())
    api_server.install(values(tmp_path / "volumes"), namespace=NAMESPACE)
    # What kubelet writes when the driver has registered.
    drivers = [{"name": DRIVER, "nodeID": "storage-1", "topologyKeys": list(SEGMENT)}]
    api_server.apply(
        [
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "storage-1", "labels": SEGMENT}},
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "CSINode",
                "metadata": {"name": "storage-1"},
                "spec": {"drivers": drivers},
            },
        ]
    )
    return api_server


def owned(kind: str, name: str, owner: Object, spec: Object) -> Object:
    reference = {"apiVersion": "apps/v1", "kind": owner["kind"], "controller": True}
    reference |= {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    metadata = {"name": name, "namespace": NAMESPACE, "ownerReferences": [reference]}
    return {"apiVersion": "v1" if kind == "Pod" else "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def make_pod(cluster: ApiServer) -> None:
    """What the cluster's controllers would make of the Deployment: storage capacities are owned by way of the pod."""
    deployment = cluster.get("deployment", "box-cinderbox-controller", "-n", NAMESPACE)
    replicas = {name: deployment["spec"][name] for name in ("selector", "template")}
    cluster.create(owned("ReplicaSet", "controller", deployment, replicas))
    replica_set = cluster.get("replicaset", "controller", "-n", NAMESPACE)
    pod = {key: value for key, value in replicas["template"]["spec"].items() if key != "priorityClassName"}
    cluster.create(owned("Pod", "controller", replica_set, pod))


def run_sidecars(stack: contextlib.ExitStack, deployment: Object, socket: Path, kubeconfig: Path, logs: Path) -> None:
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        if container["name"] not in SIDECARS:
            continue
        arguments = [each.replace("$(NAMESPACE)", NAMESPACE) for each in container["args"]]
        arguments[arguments.index("--csi-address=/csi/csi.sock")] = f"--csi-address={socket}"
        command = [BINARIES / SIDECARS[container["name"]], *arguments, f"--kubeconfig={kubeconfig}"]
        environment = {"POD_NAME": "controller", "NAMESPACE": NAMESPACE}
        stack.enter_context(running(command, logs / f"{container['name']}.log", environment))


def claim() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        # The annotation is the PersistentVolume controller's, which does not run here.
        "metadata": {
            "name": "data",
            "namespace": NAMESPACE,
            "annotations": {"volume.kubernetes.io/storage-provisioner": DRIVER},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "sidecars",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def expand(cluster: ApiServer, pv: Object) -> None:
    """A claim that asked for too much is given a size that is possible, and gets it."""
    # What the PersistentVolume controller does.
    cluster.kubectl("patch", "pvc", "data", "-n", NAMESPACE, "-p", json.dumps({"spec": {"volumeName": name_of(pv)}}))
    bound = {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    cluster.kubectl(
        *("patch", "pvc", "data", "-n", NAMESPACE, "--subresource=status", "-p", json.dumps({"status": bound}))
    )
    cluster.kubectl("patch", "pv", name_of(pv), "--subresource=status", "-p", '{"status": {"phase": "Bound"}}')

    def ask_for(size: str) -> None:
        spec = {"resources": {"requests": {"storage": size}}}
        cluster.kubectl("patch", "pvc", "data", "-n", NAMESPACE, "-p", json.dumps({"spec": spec}))

    def status() -> Object:
        found: Object = cluster.get("pvc", "data", "-n", NAMESPACE)["status"]
        return found

    def resize_state() -> str:
        return str(status().get("allocatedResourceStatuses", {}).get("storage", ""))

    ask_for("1000Ti")
    wait_until(lambda: resize_state() == "ControllerResizeInfeasible", status, timeout=60)
    ask_for("2Gi")
    wait_until(lambda: cluster.get("pv", name_of(pv))["spec"]["capacity"]["storage"] == "2Gi", status, timeout=60)


def give_up_snapshot(cluster: ApiServer, pv: Object, folder: Path) -> None:
    """One that found no room is deleted, and nothing is made of it in the folder."""
    name = "no-room"
    group = {"apiVersion": "snapshot.storage.k8s.io/v1"}
    snapshot_class = {"kind": "VolumeSnapshotClass", "metadata": {"name": name}, "driver": DRIVER}
    cluster.create(group | snapshot_class | {"deletionPolicy": "Delete"})
    content = group | {
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": name},
        "spec": {
            "deletionPolicy": "Delete",
            "driver": DRIVER,
            "volumeSnapshotClassName": name,
            "source": {"volumeHandle": pv["spec"]["csi"]["volumeHandle"]},
            "volumeSnapshotRef": {"name": name, "namespace": NAMESPACE, "uid": "1"},
        },
    }
    cluster.create(content)

    def error() -> str:
        found = cluster.get("volumesnapshotcontent", name).get("status", {})
        return str(found.get("error", {}).get("message", ""))

    wait_until(lambda: "No space left" in error(), error, timeout=60)
    # The snapshot controller's word that nobody wants it any more.
    cluster.kubectl(
        "annotate", "volumesnapshotcontent", name, "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted=yes"
    )
    cluster.kubectl("delete", "volumesnapshotcontent", name, "--wait=false")

    def listed() -> list[str]:
        return [name_of(one) for one in cluster.get("volumesnapshotcontents")["items"]]

    wait_until(lambda: name not in listed(), listed, timeout=60)
    assert list(folder.glob("snapshot-*")) == []


def name_of(item: Object) -> str:
    return str(item["metadata"]["name"])


def test_a_claim_gets_its_volume(cluster: ApiServer, tmp_path: Path) -> None:
    manifests = render(values(tmp_path / "volumes"), namespace=NAMESPACE)
    kubeconfig = cluster.service_account(NAMESPACE, "box-cinderbox-controller")
    make_pod(cluster)
    keys = tmp_path / "keys"
    secret = cluster.get("secret", "box-cinderbox-sealing", "-n", NAMESPACE)
    keys.write_bytes(base64.b64decode(secret["data"]["keys"]))
    socket = tmp_path / "csi.sock"
    environment = {
        "CINDERBOX_SEALING_KEYS_FILE": str(keys),
        "CINDERBOX_ENDPOINT": f"unix://{socket}",
        "CINDERBOX_MODE": "controller",
        "CINDERBOX_DRIVER_NAME": DRIVER,
        "CINDERBOX_HOST": DRIVER,
        "CINDERBOX_STATE_DIR": str(tmp_path / "state"),
        "CINDERBOX_PERSISTENCE": json.dumps({"storage": "crd", "namespace": NAMESPACE, "kubeconfig": str(kubeconfig)}),
    }
    with contextlib.ExitStack() as stack:
        # The sidecars first, as in a standby's pod: they wait for the socket.
        run_sidecars(stack, one(manifests, "Deployment"), socket, kubeconfig, tmp_path)
        serve: list[str | Path] = [sys.executable, "-m", "csi_plugin.cli", "serve"]
        stack.enter_context(running(serve, tmp_path / "cinderbox.log", environment))
        cluster.create(claim())

        def volumes() -> list[Object]:
            found = cluster.get("pv")["items"]
            return [pv for pv in found if pv["spec"].get("csi", {}).get("driver") == DRIVER]

        wait_until(
            lambda: bool(volumes()),
            lambda: f"the volume: {(tmp_path / 'provisioner.log').read_text()[-2000:]}",
            timeout=60,
        )
        record = cluster.get("cvol", volumes()[0]["spec"]["csi"]["volumeHandle"], "-n", NAMESPACE)
        assert record["spec"]["size"] == 1

        def leaders() -> set[str]:
            leases = cluster.get("lease", "-n", NAMESPACE)["items"]
            return {lease["metadata"]["name"] for lease in leases if lease["spec"].get("holderIdentity")}

        # The controller's, and one for each sidecar.
        wait_until(lambda: len(leaders()) == 1 + len(SIDECARS), lambda: "every sidecar to lead", timeout=60)

        def capacities() -> dict[str, Object]:
            found = cluster.get("csistoragecapacities", "-n", NAMESPACE)["items"]
            return {capacity["storageClassName"]: capacity for capacity in found}

        wait_until(lambda: len(capacities()) == 2, lambda: "storage capacities", timeout=60)
        first = capacities()["sidecars-later"]
        assert first["nodeTopology"] == {"matchLabels": SEGMENT}
        one_more = cluster.get("storageclass", "sidecars-later")

        def survives(number: int) -> bool:
            before = capacities()["sidecars-later"]["metadata"]["uid"]
            cluster.create(one_more | {"metadata": {"name": f"sidecars-still-later-{number}"}})
            wait_until(lambda: len(capacities()) == 3 + number, lambda: str(capacities()), timeout=60)
            return bool(capacities()["sidecars-later"]["metadata"]["uid"] == before)

        # The provisioner takes back one whose selector has no labels each time, and makes another one. It also makes
        # two at first, now and then, of which one goes.
        assert any(survives(number) for number in range(3))
        give_up_snapshot(cluster, volumes()[0], tmp_path / "volumes")
        expand(cluster, volumes()[0])
    complaints = [
        line
        for name in SIDECARS
        for line in (tmp_path / f"{name}.log").read_text().splitlines()
        if "forbidden" in line or "flag provided but not defined" in line
    ]
    assert complaints == []
