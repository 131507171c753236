"""How long claims take in a real cluster, against a driver that does nothing, and how much of that is ours.

    python -m benchmarks.cluster [--claims 30] [--at-once 100]

Starts the cluster of scripts/cluster if it does not run, installs the chart with the loop driver, and beside it, with
the same sidecars, benchmarks/null_driver.py. Claims of both are measured in turn, so ratios hold on a busy machine too.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from benchmarks.start import family, resident_kib
from tests.support.kubernetes_api import CHANGING

PROJECT = Path(__file__).parent.parent
NAMESPACE = "cinderbox"
OURS, NULL = "loop", "null"
CRITICAL = ("CreateVolume", "ControllerPublishVolume", "NodeStageVolume", "NodePublishVolume")
"""The calls that a new pod waits for, one after the other."""
OUR_SHARE_AIM = 10  # percent
PATIENCE = 600  # seconds
RECORDS = ("cindervolumes", "cinderconnections")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=int, default=30, help="claims one after the other, of each driver")
    parser.add_argument("--at-once", type=int, default=100, help="claims at once, of each driver")
    arguments = parser.parse_args()
    if "CINDERBOX_BENCHMARK" in os.environ:
        measure(Cluster(), arguments.claims, arguments.at_once)
        return
    cluster_command("up")
    install()
    inside = (sys.executable, "-W", "ignore", "-m", "benchmarks.cluster", *sys.argv[1:])
    cluster_command("enter", "env", "CINDERBOX_BENCHMARK=1", *inside)


def cluster_command(*arguments: str, text: str | None = None, check: bool = True) -> None:
    subprocess.run([PROJECT / "scripts/cluster", *arguments], input=text, text=True, check=check, cwd=PROJECT)


def install() -> None:
    # Helm installs definitions, and leaves those of an earlier version as they are.
    definitions = str(PROJECT / "deploy/helm/cinderbox/crds")
    cluster_command("kubectl", "apply", "--server-side", "--force-conflicts", "-f", definitions)
    cluster_command(
        *(
            "helm",
            "upgrade",
            "--install",
            "cinderbox",
            str(PROJECT / "deploy/helm/cinderbox"),
            "--namespace",
            NAMESPACE,
        ),
        *("--create-namespace", "--values", str(PROJECT / "tests/cluster/values.yaml"), "--wait", "--timeout", "180s"),
        *("--set", "controller.logLevel=info", "--set", "node.logLevel=info"),
    )
    version = yaml.safe_load((PROJECT / "deploy/helm/cinderbox/Chart.yaml").read_text())["appVersion"]
    manifest = (PROJECT / "benchmarks/null_driver.yaml").read_text().replace("VERSION", version)
    program = (PROJECT / "benchmarks/null_driver.py").read_text()
    source = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "null-driver", "namespace": NAMESPACE},
        "data": {"null_driver.py": program},
    }
    cluster_command("kubectl", "apply", "-f", "-", text=f"{yaml.safe_dump(source)}---\n{manifest}")
    cluster_command("kubectl", "-n", NAMESPACE, "rollout", "status", "deployment/null-driver", "--timeout=120s")


class Cluster:
    """The API server, seen from inside of the cluster's namespaces."""

    def __init__(self) -> None:
        from kubernetes import client, config

        config.load_kube_config()
        self.core = client.CoreV1Api()
        self.namespace = f"benchmark-{uuid4().hex[:8]}"
        self.core.create_namespace({"metadata": {"name": self.namespace}})
        self.node_address = self.core.read_node("node1").status.addresses[0].address

    def claim(self, name: str, storage_class: str) -> None:
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "1Gi"}},
        }
        self.core.create_namespaced_persistent_volume_claim(self.namespace, {"metadata": {"name": name}, "spec": spec})

    def pod(self, name: str, claim: str) -> None:
        container = {
            "name": "main",
            "image": "busybox:1",
            "imagePullPolicy": "Never",
            "command": ["sleep", "100000"],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        spec = {
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": "node1"},
            "containers": [container],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        }
        self.core.create_namespaced_pod(self.namespace, {"metadata": {"name": name}, "spec": spec})

    def seconds_to_run(self, name: str, storage_class: str) -> float:
        """From a claim and its pod to the container that runs with the volume."""
        began = time.monotonic()
        self.claim(name, storage_class)
        self.pod(name, name)
        for pod in self._changes(self.core.list_namespaced_pod, field_selector=f"metadata.name={name}"):
            if pod.status.phase == "Running":
                return time.monotonic() - began
        raise TimeoutError(f"pod {name} does not run")

    def seconds_to_bind(self, names: Iterable[str], storage_class: str) -> float:
        """From the first of many claims to the last that is bound."""
        left = set(names)
        began = time.monotonic()
        with ThreadPoolExecutor(16) as makers:
            list(makers.map(lambda name: self.claim(name, storage_class), sorted(left)))
        for claim in self._changes(self.core.list_namespaced_persistent_volume_claim):
            if claim.status.phase == "Bound":
                left.discard(claim.metadata.name)
            if not left:
                return time.monotonic() - began
        raise TimeoutError(f"claims are not bound: {sorted(left)}")

    def clear(self) -> None:
        """Delete all pods and claims, and wait until their volumes are gone."""
        self.core.delete_collection_namespaced_pod(self.namespace)
        self.core.delete_collection_namespaced_persistent_volume_claim(self.namespace)
        deadline = time.monotonic() + PATIENCE
        while any(
            volume.spec.claim_ref.namespace == self.namespace for volume in self.core.list_persistent_volume().items
        ):
            if time.monotonic() > deadline:
                raise TimeoutError("volumes are still there")
            time.sleep(0.5)

    def close(self) -> None:
        self.core.delete_namespace(self.namespace)

    def writes(self) -> Counter[tuple[str, str, str]]:
        """How often the API server was asked to change something so far: by verb, resource and subresource."""
        counted: Counter[tuple[str, str, str]] = Counter()
        text = self.core.api_client.call_api(
            *self.core.api_client.param_serialize("GET", "/metrics", auth_settings=["BearerToken"])
        )
        text.read()
        for line in text.data.decode().splitlines():
            if line.startswith("apiserver_request_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if labels["verb"] in CHANGING:
                    key = (labels["verb"], labels["resource"], labels["subresource"])
                    counted[key] += int(float(line.rpartition(" ")[2]))
        return counted

    def our_seconds(self) -> Counter[str]:
        """Seconds that our calls have taken so far, by method, in the controller and in the node of node1."""
        taken: Counter[str] = Counter()
        for port in (9808, 9809):
            with urllib.request.urlopen(f"http://{self.node_address}:{port}/metrics") as answer:
                text = answer.read().decode()
            for method, seconds in re.findall(r'rpc_duration_seconds_sum\{code="\w+",method="(\w+)"\} (\S+)', text):
                taken[method] += float(seconds)
        return taken

    def _changes(self, list_: Any, **selector: str) -> Iterable[Any]:
        from kubernetes import watch

        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for event in watch.Watch().stream(list_, self.namespace, timeout_seconds=60, **selector):
                yield event["object"]


def measure(cluster: Cluster, claims: int, at_once: int) -> None:
    try:
        one_by_one(cluster, claims)
        all_at_once(cluster, at_once)
        print_memory()
    finally:
        cluster.close()


def one_by_one(cluster: Cluster, claims: int) -> None:
    for storage_class in (OURS, NULL):
        cluster.seconds_to_run(f"first-{storage_class}", storage_class)  # caches are filled
    cluster.clear()
    taken: dict[str, list[float]] = {OURS: [], NULL: []}
    writes, seconds = cluster.writes(), cluster.our_seconds()
    for number in range(claims):
        for storage_class, times in taken.items():
            times.append(cluster.seconds_to_run(f"{storage_class}-{number}", storage_class))
    ours = cluster.our_seconds() - seconds
    cluster.clear()
    records = {key: count for key, count in (cluster.writes() - writes).items() if key[1] in RECORDS}

    print(f"{'claim to running pod, s':40}{'ours':>10}{'null':>10}{'ratio':>10}")
    for name, percentile in (("p50", 50), ("p95", 95)):
        mine, theirs = (quantile(taken[which], percentile) for which in (OURS, NULL))
        print(f"{name:40}{mine:10.2f}{theirs:10.2f}{mine / theirs:9.2f}x")
    total = sum(taken[OURS])
    print(f"\n{'our calls, of a claim':40}{'ms':>10}{'share':>10}")
    for method in CRITICAL:
        print(f"{method:40}{ours[method] * 1000 / claims:10.0f}{ours[method] * 100 / total:9.1f}%")
    together = sum(ours[method] for method in CRITICAL)
    aim = f"(aim: {OUR_SHARE_AIM}% at most)"
    print(f"{'together':40}{together * 1000 / claims:10.0f}{together * 100 / total:9.1f}%  {aim}")
    print(f"\n{'writes of records, of a claim':40}{'from claim to deleted volume':>10}")
    for (verb, resource, subresource), count in sorted(records.items(), key=lambda item: item[0][1:]):
        print(f"{f'{verb} {resource} {subresource}':40}{count / claims:10.1f}")
    awaited = sum(count for key, count in records.items() if not key[2])
    print(f"{'together, that a call waits for':40}{awaited / claims:10.1f}\n")


def all_at_once(cluster: Cluster, claims: int) -> None:
    seconds, writes = {}, {}
    for storage_class in (OURS, NULL):
        before = cluster.writes()
        names = [f"{storage_class}-at-once-{number}" for number in range(claims)]
        seconds[storage_class] = cluster.seconds_to_bind(names, storage_class)
        cluster.clear()
        changes = cluster.writes() - before
        writes[storage_class] = sum(n for key, n in changes.items() if key[1] not in ("leases", "events")) / claims
    print(f"{f'{claims} claims at once':40}{'ours':>10}{'null':>10}{'ratio':>10}")
    for name, figures in (("all bound, s", seconds), ("writes of all components, of a claim", writes)):
        print(f"{name:40}{figures[OURS]:10.2f}{figures[NULL]:10.2f}{figures[OURS] / figures[NULL]:9.2f}x")


def print_memory() -> None:
    print(f"\n{'resident set after that, MiB':40}")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mode = next((one.decode().partition("=")[2] for one in environment if one.startswith(b"CINDERBOX_MODE=")), "")
        if mode and b"serve" in command:
            size = sum(resident_kib(pid) for pid in family(int(process.name))) / 1024
            print(f"{mode:40}{size:10.1f}")


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main()
