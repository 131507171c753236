"""Further releases of the chart, each in a namespace of its own, as an admin installs and removes them."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.cluster.cluster import CHART, VALUES, VOLUMES, Cluster, Object

HOST_PATH = f"{VOLUMES}/{{name}}"
SIDECARS: Object = yaml.safe_load(VALUES.read_text())["sidecars"]


def host_values(name: str, number: int) -> Object:
    """Values of a release whose controller runs on node1, with a folder of the host as storage.

    ``number``: tells its ports from those of others.
    """
    folder = HOST_PATH.format(name=name)
    return {
        "driverName": f"{name}.example",
        "backends": [
            {
                "name": "loop",
                "driver": "csi_plugin.storage.drivers.loop.LoopDriver",
                "options": {"loop_volumes_dir": folder},
            }
        ],
        "hostPaths": [folder],
        "controller": {
            "profile": "host",
            "nodeSelector": {"kubernetes.io/hostname": "node1"},
            "hostMounts": [],
            "http": {"port": 9808 + 10 * number},
        },
        "node": {"hostMounts": [], "http": {"port": 9809 + 10 * number}},
        "sidecars": copy.deepcopy(SIDECARS),
        "storageClasses": [{"name": name, "parameters": {"backend": "loop"}, "volumeBindingMode": "Immediate"}],
    }


def helm_install(
    name: str, values: Object, *arguments: str, namespace: str = "", chart: Path = CHART, check: bool = True
) -> str:
    """`helm upgrade --install` of release ``name``, in the namespace of that name if no other is said; what it says.

    As an admin does first, it makes the folders of the host that the release has its volumes in.
    """
    cluster = Cluster(name)
    for folder in values.get("hostPaths", []):
        cluster.run("enter", "mkdir", "-p", folder)
    return cluster.run(
        *("helm", "upgrade", "--install", name, str(chart), "--namespace", namespace or name),
        *("--values", "-", *arguments),
        input_text=json.dumps(values),
        check=check,
    )


@contextmanager
def release(name: str, values: Object, *, level: str = "privileged", wait: bool = True) -> Iterator[Cluster]:
    """A release that serves, removed at the end. ``level``: of Pod Security, in its namespace."""
    cluster = Cluster(name)
    cluster.run("kubectl", "create", "namespace", name)
    cluster.run("kubectl", "label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
    helm_install(name, values, *(["--wait", "--timeout=120s"] if wait else []))
    yield cluster
    remove(name)


def remove(name: str, *, namespace: str = "") -> None:
    """Take the release and all its records away, and its namespace; what is on the storage stays."""
    cluster = Cluster(namespace or name)
    cluster.run("helm", "uninstall", name, "--namespace", cluster.namespace, "--wait")
    policies = "validatingadmissionpolicybindings,validatingadmissionpolicies"
    cluster.run("kubectl", "delete", policies, "-l", f"app.kubernetes.io/instance={name}")
    cluster.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=120s")  # they would write records again
    remove_records(cluster)
    cluster.run("kubectl", "delete", "namespace", cluster.namespace)


def remove_records(cluster: Cluster) -> None:
    """Delete all records of a namespace, which nothing protects any more."""
    kinds = cluster.run("kubectl", "api-resources", "--api-group=cinderbox.io", "--output=name").split()
    names = cluster.kubectl("get", ",".join(kinds), "--output=name").split()
    for one in names:
        cluster.kubectl("patch", one, "--type=merge", '--patch={"metadata": {"finalizers": null}}')
    if names:
        cluster.kubectl("delete", *names, "--ignore-not-found")
