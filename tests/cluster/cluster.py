"""The cluster of scripts/cluster, as tests use it."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tests.cluster.inside import api_objects, first_process, mounts_and_volumes
from tests.support.api_objects import APIObjects
from tests.support.devices import backing_files
from tests.support.polling import wait_until
from tests.support.project import PROJECT

CHART = PROJECT / "deploy/helm/cinderbox"
VALUES = PROJECT / "tests/cluster/values.yaml"
NAMESPACE = "cinderbox"
DRIVER_NAME = "csi.cinderbox.io"
VOLUMES = Path("/var/lib/cinderbox-volumes")
NODES = ("node1", "node2")
DIRECTORY = Path(os.environ.get("CLUSTER_DIR", PROJECT / ".tools/cluster"))
Object = dict[str, Any]


class Cluster:
    """kubectl in the namespace of a test, and what is on the storage."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.files_before: set[str] = set()
        """What was on the storage before the test."""

    @property
    def state(self) -> Path:
        """Directory of the cluster's control plane and nodes; what tests put there goes with the cluster."""
        return DIRECTORY / "state"

    def command(self, *arguments: str) -> list[str]:
        """How a command is run in the cluster: `kubectl`, `helm`, or another of scripts/cluster."""
        return [str(PROJECT / "scripts/cluster"), *arguments]

    def run(self, *arguments: str, input_text: str | None = None, check: bool = True, timeout: float = 180) -> str:
        """What a command in the cluster prints."""
        done = subprocess.run(
            self.command(*arguments),
            input=input_text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode and check:
            raise AssertionError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}\n{self.events()}")
        return done.stdout if check else done.stdout + done.stderr

    def kubectl(self, *arguments: str, input_text: str | None = None, check: bool = True, timeout: float = 330) -> str:
        arguments = ("kubectl", "-n", self.namespace, *arguments)
        return self.run(*arguments, input_text=input_text, check=check, timeout=timeout)

    def get(self, kind: str, name: str = "", *, labels: str = "", fields: str = "") -> Any:
        """An object, or a list of those that selectors of labels and fields take."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        found = _api_server().get(self.namespace, kind, name, **{key: text for key, text in selectors.items() if text})
        if found is not None:
            return found
        assert not (name or labels or fields), f"the API server knows no {kind}"
        return json.loads(self.kubectl("get", kind, "-o", "json"))  # a category

    def apply(self, *objects: Object) -> None:
        self.kubectl("apply", "-f", "-", input_text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def wait(self, kind_and_name: str, condition: str, seconds: int = 90) -> None:
        """``condition``: what `kubectl wait --for` takes."""
        self.kubectl("wait", kind_and_name, f"--for={condition}", f"--timeout={seconds}s")

    def wait_running(self, pod: str, seconds: int = 90) -> None:
        self.wait(f"pod/{pod}", "condition=Ready", seconds)

    def exec(self, pod: str, script: str) -> str:
        return self.kubectl("exec", pod, "--", "sh", "-c", script)

    def write(self, pod: str, text: str = "precious") -> None:
        """Put a text into a file of a pod's volume, and on the storage."""
        self.exec(pod, f"echo {text} > /data/file && sync")

    def delete(self, kind: str, *names: str) -> None:
        self.kubectl("delete", kind, *names, "--timeout=90s")

    def records(self, kind: str) -> list[Any]:
        """The driver's records of a kind, of the claims of this test's namespace."""
        found = self.all_records(kind)
        return [one for one in found if one["metadata"].get("labels", {}).get(CLAIM_NAMESPACE) == self.namespace]

    def node_of(self, pod: str) -> str:
        return str(self.get("pod", pod)["spec"]["nodeName"])

    def all_records(self, kind: str) -> list[Any]:
        return list(Cluster(NAMESPACE).get(kind)["items"])

    def volume_of(self, claim: str) -> str:
        """The id of a claim's volume."""
        name = self.get("pvc", claim)["spec"]["volumeName"]
        return str(self.get("pv", name)["spec"]["csi"]["volumeHandle"])

    def files(self) -> set[str]:
        """What is on the storage."""
        listed = [path.name for path in Path(f"/proc/{first_process(DIRECTORY)}/root/{VOLUMES}").iterdir()]
        return {name for name in listed if name.startswith(("volume-", "snapshot-", "_snapshot-"))}

    def on_node(self, node: str, script: str) -> str:
        return self.run("enter-node", node, "sh", "-c", script)

    def signal(self, pod: str, name: str, *containers: str) -> None:
        """Send a signal to all processes of a pod's containers, or of some of them, behind Kubernetes' back."""
        found = self.get("pod", pod)
        ids = [
            one["containerID"].rpartition("/")[2]
            for one in found["status"]["containerStatuses"]
            if not containers or one["name"] in containers
        ]
        script = f"grep -lE '{'|'.join(ids)}' /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs -r kill -{name}"
        self.on_node(found["spec"]["nodeName"], script)

    def wait_for_api_server(self) -> None:
        server = _api_server()
        wait_until(lambda: server.read("/readyz") == (200, "ok"), lambda: server.read("/readyz"), timeout=60)

    def wait_until_only_these_are_left(self, *volume_ids: str) -> None:
        """Each of these volumes of this namespace is there once, and no other: in Kubernetes, in the records and on the
        storage."""

        def found() -> list[set[str]]:
            handles = [one["spec"]["csi"]["volumeHandle"] for one in self._persistent_volumes()]
            return [
                set(handles) if len(handles) == len(set(handles)) else {"doubled", *handles},
                {one["spec"]["id"] for one in self.records("cvol")},
                {name.removeprefix("volume-") for name in self.files() - self.files_before},
            ]

        wait_until(lambda: found() == [set(volume_ids)] * 3, found, timeout=90)

    def wait_until_nothing_is_left(self, *volume_ids: str, seconds: float = 120) -> None:
        """Nothing of this namespace's claims is left in Kubernetes, in the records and on the storage.

        ``volume_ids``: whose attachments, devices and mounts are looked for.
        """

        def left() -> list[str]:
            volumes = [one["metadata"]["name"] for one in self._persistent_volumes()]
            records = [one["spec"]["id"] for one in (*self.records("cvol"), *self.records("csnap"))]
            connections = [one["spec"]["volumeId"] for one in self.all_records("cconn")]
            states = [text for node in NODES for text in mounts_and_volumes(DIRECTORY, node)]
            used = [
                one
                for one in volume_ids
                if any(one in text for text in (*connections, *backing_files().values(), *states))
            ]
            return [*volumes, *records, *used, *sorted(self.files() - self.files_before)]

        def state() -> str:
            records = [(one["metadata"]["annotations"], one["spec"]) for one in self.records("cvol")]
            return f"{left()}\n{records}\n{self.events()}"

        wait_until(lambda: not left(), state, timeout=seconds)

    def attachments(self) -> list[Any]:
        """VolumeAttachments of this namespace's claims."""
        volumes = {one["metadata"]["name"] for one in self._persistent_volumes()}
        listed = self.get("volumeattachments")["items"]
        return [one for one in listed if one["spec"]["source"]["persistentVolumeName"] in volumes]

    def _persistent_volumes(self) -> list[Any]:
        listed = self.get("pv")["items"]
        return [one for one in listed if one["spec"].get("claimRef", {}).get("namespace") == self.namespace]

    def events(self) -> str:
        return self.run("kubectl", "-n", self.namespace, "get", "events", check=False)[-4000:]

    def check_claims_are_served(self, **spec: Any) -> None:
        """A pod uses the volume of a claim, and nothing is left of either. ``spec``: of the claim, beside the usual."""
        self.apply(claim("orders", **spec), pod("shop", "orders"))
        self.wait_running("shop")
        self.write("shop")
        assert self.exec("shop", "cat /data/file") == "precious\n"
        volume = self.volume_of("orders")
        self.delete("pod", "shop")
        self.delete("pvc", "orders")
        self.wait_until_gone(volume)

    def wait_until_gone(self, *volume_ids: str) -> None:
        """Nothing of these volumes is left, in Kubernetes, in the records and on the storage."""

        def left() -> list[str]:
            volumes = self.get("pv")["items"]
            names = {one["spec"].get("csi", {}).get("volumeHandle") for one in volumes}
            names |= {one["spec"]["id"] for one in self.records("cvol")}
            return [
                identifier
                for identifier in volume_ids
                if identifier in names or any(identifier in file for file in self.files())
            ]

        wait_until(lambda: not left(), lambda: f"{left()}\n{self.events()}", timeout=90)


@cache
def _api_server() -> APIObjects:
    return api_objects(DIRECTORY)


def install(cluster: Cluster, *arguments: str) -> None:
    """Install the chart with the tests' values, or bring the release to them again. ``arguments``: further, of helm."""
    cluster.run(
        *("helm", "upgrade", "--install", "cinderbox", str(CHART)),
        *("--namespace", NAMESPACE, "--values", str(VALUES), *arguments),
        *("--wait", "--timeout", "120s"),
    )


CLAIM_NAMESPACE = "cinderbox.io/claim-namespace"


def claim(name: str, *, gib: int = 1, block: bool = False, mode: str = "ReadWriteOnce", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": [mode],
            "storageClassName": "loop",
            "volumeMode": "Block" if block else "Filesystem",
            "resources": {"requests": {"storage": f"{gib}Gi"}},
            **spec,
        },
    }


def pod(name: str, claim_name: str, *, block: bool = False, node: str | None = None) -> Object:
    """A pod that sleeps, with the claim at /data, or at /dev/block; on ``node`` if it is given."""
    container: Object = {
        "name": "main",
        "image": "busybox:1",
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "trap exit TERM; sleep 100000 & wait"],
    }
    if block:
        container["volumeDevices"] = [{"name": "data", "devicePath": "/dev/block"}]
    else:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "containers": [container],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}],
        },
    }


def task(name: str, claim_name: str, script: str, *, node: str | None = None) -> Object:
    """A pod that runs a script once, with the claim at /data."""
    made = pod(name, claim_name, node=node)
    made["spec"]["restartPolicy"] = "Never"
    made["spec"]["containers"][0]["command"] = ["sh", "-ec", script]
    return made


def snapshot(name: str, claim_name: str) -> Object:
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"volumeSnapshotClassName": "loop", "source": {"persistentVolumeClaimName": claim_name}},
    }
