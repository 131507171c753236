"""The chart: what it renders, what a real API server says to it, and what it refuses."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from csi_plugin.persistence.crd.sealing_secret import read_or_create_keys
from csi_plugin.server.settings import Settings
from csi_plugin.server.settings import load as load_settings
from tests.deploy.api_server import ApiServer
from tests.deploy.chart import (
    ARRAY,
    CHART,
    HELM,
    HOST,
    LOOP,
    LVM,
    RESTRICTED,
    Object,
    one,
    refusal,
    render,
    try_render,
)
from tests.support.programs import after_importing_the_library
from tests.support.project import PROJECT

pytestmark = pytest.mark.kubernetes  # helm is built with it

ON = {"enabled": True}
EVERYTHING: Object = {
    "backends": [
        ARRAY
        | {
            "secretOptions": {"pure_api_token": "12345"},
            "suspend": True,
            "topology": [{"zone": "z1"}],
            "maxConcurrentOperations": 1000,
        },
        ARRAY | {"name": "second", "secretRef": {"name": "mine"}},
    ],
    "clusterName": "prod",
    "global": {"imageRegistry": "mirror.example", "imagePullSecrets": ["pull"]},
    "settings": {"disabled_features": ["clone"]},
    "rbac": {"storageClassSecrets": True},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
    },
    "metrics": {"serviceMonitor": ON, "prometheusRule": ON, "dashboard": ON},
    "tracing": {"endpoint": "http://collector.example:4317"},
    "controller": {"antiAffinity": "required", "replicas": 3},
    "node": {"topology": {"topology.cinderbox.io/node": "$(NODE_NAME)"}, "hostPID": True, "settings": {"workers": 8}},
    "storageClasses": [{"name": "fast", "default": True, "parameters": {"backend": "array"}}],
    "volumeSnapshotClasses": [{"name": "fast", "deletionPolicy": "Retain"}],
}
MINIMAL: Object = {
    "existingSettingsSecret": "mine",
    "sealing": {"existingSecret": "mine-too"},
    "sidecars": {"snapshotter": {"enabled": False}},
    "admission": {"enabled": False},
    "node": {"preStop": {"enabled": False}, "hostMounts": []},
    "csiDriver": {"nodeAllocatableUpdatePeriodSeconds": None},
}
VALUES = {"restricted": RESTRICTED, "host": HOST, "everything": EVERYTHING, "minimal": MINIMAL}


# What the API server says


def custom_kind(group: str, kind: str) -> Object:
    """A stand-in for the CRD of somebody else's kind, so that the server takes objects of it."""
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer) -> ApiServer:
    """With the kinds that the chart and the examples use."""
    for file in sorted((PROJECT / ".tools/kubernetes/crds").glob("*.storage.k8s.io_*.yaml")):
        api_server.apply(file.read_text())
    api_server.apply([custom_kind("monitoring.coreos.com", kind) for kind in ("ServiceMonitor", "PrometheusRule")])
    for name in ("storage", "second", "cinderbox"):
        api_server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
    default = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    api_server.apply([default])
    api_server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return api_server


def dry_run(cluster: ApiServer, manifests: list[Object]) -> None:
    """Let the server check them all. The service accounts it has to have: it takes no pod without."""
    cluster.apply([manifest for manifest in manifests if manifest["kind"] == "ServiceAccount"])
    cluster.apply(manifests, "--dry-run=server", "--validate=strict")


@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_the_server_takes_what_is_rendered(cluster: ApiServer, values: Object) -> None:
    dry_run(cluster, render(values))


def test_two_releases_share_no_object(cluster: ApiServer) -> None:
    first = render(RESTRICTED, namespace="storage")
    second = render(RESTRICTED | {"driverName": "second.example"}, namespace="second")
    dry_run(cluster, second)

    def names(manifests: list[Object]) -> set[tuple[str, str, str]]:
        return {(m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]) for m in manifests}

    assert names(first) & names(second) == set()
    settings = [one(manifests, "DaemonSet")["spec"]["template"] for manifests in (first, second)]
    directories = [
        {v["hostPath"]["path"] for v in s["spec"]["volumes"] if v["name"] in ("socket", "state")} for s in settings
    ]
    assert directories[0] & directories[1] == set()
    # Of the host, where both have their nodes, and in the host profile their controllers.
    ports = [
        {port["containerPort"] for kind in ("DaemonSet", "Deployment") for port in container(one(each, kind))["ports"]}
        for each in (first, second, render(RESTRICTED | {"driverName": "third.example"}, namespace="third"))
    ]
    assert ports[0] == {9808, 9809}
    assert len(set.union(*ports)) == 6


def test_pods_meet_their_pod_security_level(cluster: ApiServer) -> None:
    """The restricted profile's pods in a namespace that enforces "restricted"; the node's are refused there."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}}])
    manifests = render(EVERYTHING, namespace="strict")
    accounts = [m for m in manifests if m["kind"] == "ServiceAccount"]
    cluster.apply(accounts)
    assert "forbidden" not in dry_run_pod(cluster, one(manifests, "Deployment"))
    assert "violates PodSecurity" in dry_run_pod(cluster, one(manifests, "DaemonSet"))
    test = one(manifests, "Pod")
    cluster.apply([test], "--dry-run=server")


def dry_run_pod(cluster: ApiServer, workload: Object) -> str:
    template = workload["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": "strict"},
        "spec": template["spec"],
    }
    return cluster.try_kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod)).stderr


EXAMPLES = sorted(file for file in (PROJECT / "deploy/examples").glob("*.yaml") if file.stem != "values")


def test_the_chart_takes_the_example_values() -> None:
    assert render(yaml.safe_load((PROJECT / "deploy/examples/values.yaml").read_text()))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_server_takes_the_example(cluster: ApiServer, file: Path) -> None:
    cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(file))


def test_the_server_takes_the_plain_manifests(cluster: ApiServer) -> None:
    directory = str(PROJECT / "deploy/kubernetes")
    cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", directory)


def test_an_upgrade_keeps_keys_and_backends(cluster: ApiServer, tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    backends = [ARRAY | {"secretOptions": {"pure_api_token": "12345"}}]
    classes = [{"name": "kept", "parameters": {"backend": "array"}}]
    kept = {"driverName": "kept.example", "admission": {"keep": False}, "storageClasses": classes}
    values.write_text(json.dumps({"backends": backends} | kept))
    for _ in range(2):
        helm(cluster, "upgrade", "--install", "kept", str(CHART), "-n", "cinderbox", "-f", str(values))
        secret, kubeconfig = "kept-cinderbox-sealing", str(cluster.kubeconfig)
        read_or_create_keys(secret, "keys", namespace="cinderbox", kubeconfig=kubeconfig)
    keys = cluster.get("secret", secret, "-n", "cinderbox")["data"]
    second = helm(cluster, "install", "rival", str(CHART), "-n", "cinderbox", "-f", str(values), check=False)
    assert "namespace cinderbox already has release kept" in second
    for value, reason in (
        ("driverName=new.example", "driverName: release kept is driver kept.example"),
        ("node.stateDir=/var/lib/new", "node.stateDir: nodes keep their keys"),
        ("node.kubeletDir=/data/kubelet", "node.kubeletDir: volumes are mounted below /var/lib/kubelet"),
        ("storageClasses[0].parameters.backend=other", 'parameters of StorageClass kept is {"backend":"array"}'),
        ("storageClasses[0].reclaimPolicy=Retain", 'reclaimPolicy of StorageClass kept is "Delete"'),
        ("fullnameOverride=new", "the objects of release kept are named kept-cinderbox, and would be named new"),
    ):
        arguments = ("upgrade", "kept", str(CHART), "-n", "cinderbox", "-f", str(values), "--set", value)
        assert reason in helm(cluster, *arguments, check=False)
    for _ in range(2):  # what was left is taken over by an installation of the same name
        helm(cluster, "uninstall", "kept", "-n", "cinderbox")
        assert cluster.get("secret", secret, "-n", "cinderbox")["data"] == keys
        assert cluster.get("secret", "kept-cinderbox-backend-array", "-n", "cinderbox")["data"]
        assert cluster.get("cbackend", "array", "-n", "cinderbox")["spec"]["options"] == ARRAY["options"]
        helm(cluster, "install", "kept", str(CHART), "-n", "cinderbox", "-f", str(values))
    helm(cluster, "uninstall", "kept", "-n", "cinderbox")


def helm(cluster: ApiServer, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        [HELM, "--kubeconfig", cluster.kubeconfig, *arguments], capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# What is rendered


def test_helm_lint_finds_nothing() -> None:
    done = subprocess.run([HELM, "lint", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plain_manifests_are_fresh(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROJECT / "scripts/generate/manifests.py", tmp_path], check=True)
    made = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert made
    stale = [str(name) for name, text in made.items() if (PROJECT / "deploy" / name).read_text() != text]
    assert stale == [], "run `make manifests`"
    applied = yaml.safe_load((PROJECT / "deploy/kubernetes/kustomization.yaml").read_text())["resources"]
    assert sorted(applied) == sorted(["namespace.yaml", *(n.name for n in made if n.parent.name == "kubernetes")])


def test_the_schema_has_the_programs_settings() -> None:
    generator = PROJECT / "scripts/generate/chart_settings.py"
    made = subprocess.run([sys.executable, generator, "-"], check=True, capture_output=True, text=True).stdout
    assert (CHART / "values.schema.json").read_text() == made, "run `make docs`"


def test_the_chart_has_the_projects_version() -> None:
    project = re.search(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project[1]


def test_every_value_has_a_schema_and_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(part: Any, value: Any, path: str) -> list[str]:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if not isinstance(part.get("properties"), dict) or not isinstance(value, dict):
            return []
        if path.endswith("settings."):
            return []  # the program's own, whose defaults are there
        allowed = {name for name, allows in part["properties"].items() if allows is not False}
        differ = [f"{path}{name}" for name in allowed ^ set(value)]
        for name in allowed & set(value):
            differ += compare(part["properties"][name], value[name], f"{path}{name}.")
        return differ

    assert compare(schema, values, "") == []


def container(workload: Object) -> Object:
    return next(c for c in workload["spec"]["template"]["spec"]["containers"] if c["name"] == "cinderbox")


def settings_of(workload: Object, file: Path, content: str) -> Settings:
    """What `cinderbox serve` makes of the container's environment."""
    file.write_text(content)
    environment = {entry["name"]: str(entry.get("value", "node-1")) for entry in container(workload)["env"]}
    environment = {name: value.replace("$(NODE_NAME)", "node-1") for name, value in environment.items()}
    return load_settings(environment=environment | {"CINDERBOX_SETTINGS": str(file)})


@pytest.mark.parametrize("values", [RESTRICTED, HOST, EVERYTHING], ids=["restricted", "host", "everything"])
def test_cinderbox_takes_the_settings(values: Object, tmp_path: Path) -> None:
    manifests = render(values)
    content = one(manifests, "Secret", "-settings")["stringData"]["settings.yaml"]
    controller = settings_of(one(manifests, "Deployment"), tmp_path / "settings.yaml", content)
    assert controller.mode == "controller"
    assert controller.backends == []
    # Messages about the keys name the Secret by this.
    keys = next(e["value"] for e in container(one(manifests, "Deployment"))["env"] if "SEALING_KEYS" in e["name"])
    assert Path(keys).parent.name == (values.get("sealing", {}).get("existingSecret") or "box-cinderbox-sealing")
    content = one(manifests, "ConfigMap", "-node")["data"]["settings.yaml"]
    node = settings_of(one(manifests, "DaemonSet"), tmp_path / "node.yaml", content)
    assert (node.mode, node.node_id) == ("node", "node-1")
    assert node.node_topology == ({"topology.cinderbox.io/node": "node-1"} if values is EVERYTHING else {})


def test_backends_are_rendered_and_stay() -> None:
    manifests = render(EVERYTHING)
    first = one(manifests, "CinderBackend", "array")
    assert first["spec"] == {
        "driver": ARRAY["driver"],
        "options": ARRAY["options"],
        "secretRef": {"name": "box-cinderbox-backend-array"},
        "suspend": True,
        "topology": [{"zone": "z1"}],
        "maxConcurrentOperations": 1000,
    }
    secret = one(manifests, "Secret", "-backend-array")
    assert base64.b64decode(secret["data"]["pure_api_token"]) == b"12345"
    assert one(manifests, "CinderBackend", "second")["spec"]["secretRef"] == {"name": "mine"}
    for kept in (first, secret):
        assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_all_images_come_from_the_registry_that_is_named() -> None:
    manifests = render(EVERYTHING | {"images": {"attacher": {"digest": f"sha256:{'0' * 64}"}}})
    workloads = [one(manifests, kind)["spec"]["template"]["spec"] for kind in ("Deployment", "DaemonSet")]
    pods = [*workloads, one(manifests, "Pod")["spec"]]
    images = {c["image"] for pod in pods for c in pod["containers"]}
    assert {image.split("/")[0] for image in images} == {"mirror.example"}
    assert f"mirror.example/sig-storage/csi-attacher@sha256:{'0' * 64}" in images
    assert all(pod["imagePullSecrets"] == [{"name": "pull"}] for pod in pods)


def test_no_probe_depends_on_leading() -> None:
    pod = one(render(RESTRICTED), "Deployment")["spec"]["template"]["spec"]
    for each in pod["containers"]:
        paths = {each[probe]["httpGet"]["path"] for probe in each if probe.endswith("Probe")}
        assert paths == ({"/healthz"} if each["name"] == "cinderbox" else set())


@pytest.mark.parametrize(
    ("address", "wanted"),
    [(None, "[::]:1234"), ("[::]", "[::]:1234"), ("fd00::1", "[fd00::1]:1234"), ("0.0.0.0", "0.0.0.0:1234")],
)
def test_http_is_served_to_ipv4_and_ipv6(address: str | None, wanted: str) -> None:
    http: Object = {"port": 1234} | ({"address": address} if address else {})
    manifests = render(RESTRICTED | {"controller": {"http": http}, "node": {"http": http}})
    for kind in ("Deployment", "DaemonSet"):
        environment = {entry["name"]: entry.get("value") for entry in container(one(manifests, kind))["env"]}
        assert environment["CINDERBOX_HTTP_ADDRESS"] == wanted


def test_mount_sees_that_a_host_has_selinux() -> None:
    """libselinux wants the configuration, and a selinuxfs that is not read-only; otherwise mount(8) drops labels."""
    manifests = render(RESTRICTED)
    assert one(manifests, "CSIDriver")["spec"]["seLinuxMount"] is True
    node = one(manifests, "DaemonSet")
    hosts = {v["name"]: v["hostPath"]["path"] for v in node["spec"]["template"]["spec"]["volumes"] if "hostPath" in v}
    mounts = {mount["mountPath"]: mount for mount in container(node)["volumeMounts"]}
    for path in ("/etc/selinux", "/sys"):
        assert hosts[mounts[path]["name"]] == path
    assert mounts["/etc/selinux"]["readOnly"] is True
    assert not mounts["/sys"].get("readOnly")
    assert not any(path.startswith("/sys/fs") for path in mounts)


def test_replicas_follow_the_profile() -> None:
    restricted, host = render(RESTRICTED), render(HOST)
    assert one(restricted, "Deployment")["spec"]["replicas"] == 2
    assert one(restricted, "PodDisruptionBudget")
    assert one(host, "Deployment")["spec"]["replicas"] == 1
    assert [m for m in host if m["kind"] == "PodDisruptionBudget"] == []


def test_every_driver_on_storage_of_the_host_is_known() -> None:
    """Cinder's drivers that mount shares or drive LVM, in a process of its own: it loads all of Cinder."""
    code = """
import importlib
import csi_plugin
from csi_plugin.storage.cinder.driver_catalogue import supported_drivers
csi_plugin.setup(persistence_config={"storage": "memory"})
from cinder.volume.drivers import lvm, remotefs
for name, driver in supported_drivers(2).items():
    module, _, name = driver["class_fqn"].rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError:
        continue  # needs a vendor's package
    if issubclass(found, (lvm.LVMVolumeDriver, remotefs.RemoteFSDriver)):
        print(found.__name__)
"""
    drivers = after_importing_the_library().run(code).split()
    assert "LVMVolumeDriver" in drivers and "NfsDriver" in drivers
    for driver in drivers:
        assert driver in refusal({"backends": [{"name": "b", "driver": f"some.module.{driver}"}]})


# What is refused


def test_old_clusters_are_refused() -> None:
    done = try_render(RESTRICTED, "--kube-version", "1.33.2")
    assert "requires kubeVersion: >=1.34.0-0 which is incompatible with Kubernetes v1.33.2" in done.stderr


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"backends": [ARRAY, ARRAY]}, "backends: two are named array"),
        ({"settings": {"workers": 3}, "existingSettingsSecret": "s"}, "exclude each other"),
        (
            {"backends": [ARRAY | {"secretOptions": {"a": "b"}, "secretRef": {"name": "s"}}]},
            "backend array: secretOptions and secretRef exclude each other",
        ),
        ({"backends": [ARRAY | {"san_ip": "192.0.2.7"}]}, "additional properties 'san_ip' not allowed"),
        (
            {"backends": [LOOP]},
            "backend loop: csi_plugin.storage.drivers.loop.LoopDriver works with storage that the host",
        ),
        (
            {"backends": [LVM | {"driver": "lvmvolume"}]},
            "the restricted profile has none of these. Set controller.profile",
        ),
        ({"backends": [LVM], "controller": {"profile": "host"}}, "Name it in controller.nodeSelector"),
        (HOST | {"hostPaths": []}, "loop_volumes_dir has to be in a directory of hostPaths"),
        (HOST | {"hostPaths": ["/srv/vol"]}, "loop_volumes_dir has to be in a directory of hostPaths"),
        (RESTRICTED | {"hostPaths": ["/srv"]}, "the restricted profile mounts no directory of the host"),
        (RESTRICTED | {"controler": {}}, "additional properties 'controler' not allowed"),
        (RESTRICTED | {"controller": {"profile": "root"}}, "at '/controller/profile': value must be one of"),
        (RESTRICTED | {"node": {"http": {"port": 99999}}}, "at '/node/http/port'"),
        (RESTRICTED | {"driverName": "No Domain"}, "at '/driverName'"),
        (RESTRICTED | {"backends": [{"name": "b"}]}, "missing property 'driver'"),
        (RESTRICTED | {"settings": {"mode": "all"}}, "at '/settings/mode': false schema"),
        (RESTRICTED | {"settings": {"wokers": 3}}, "at '/settings': additional properties 'wokers' not allowed"),
        (RESTRICTED | {"settings": {"workers": "many"}}, "at '/settings/workers': got string, want integer"),
        (RESTRICTED | {"node": {"settings": {"max_volume": 9}}}, "at '/node/settings': additional properties 'max_vol"),
        (RESTRICTED | {"node": {"settings": {"max_volumes": 9}}}, "at '/node/settings/max_volumes': false schema"),
        (RESTRICTED | {"node": {"settings": {"default_filesystem": "ext5"}}}, "at '/node/settings/default_filesystem'"),
        (RESTRICTED | {"images": {"attacher": {"digest": "sha256:1"}}}, "at '/images/attacher/digest'"),
        (RESTRICTED | {"storageClasses": [{"parameters": {}}]}, "at '/storageClasses/0': missing property 'name'"),
        (RESTRICTED | {"node": {"hostMounts": [{"name": "x", "path": "relative"}]}}, "at '/node/hostMounts/0/path'"),
    ],
)
def test_wrong_values_are_refused_with_the_reason(values: Object, reason: str) -> None:
    assert reason in refusal(values)


def test_room_is_published() -> None:
    """Also where nodes have no topology of their own: then they have the one that NodeGetInfo answers by default."""
    for topology in ({}, {"topology.cinderbox.io/node": "$(NODE_NAME)"}):
        manifests = render(RESTRICTED | {"node": {"topology": topology}})
        assert one(manifests, "CSIDriver")["spec"]["storageCapacity"] is True
        containers = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
        (provisioner,) = [each for each in containers if each["name"] == "provisioner"]
        assert {"--enable-capacity", "--capacity-for-immediate-binding"} <= set(provisioner["args"])


def test_immediate_binding_needs_no_node_where_all_of_them_reach_the_storage() -> None:
    """Else external-provisioner asks for the topologies of all nodes, and fails while there are none."""
    for topology, expected in (({}, True), ({"topology.cinderbox.io/node": "$(NODE_NAME)"}, False)):
        manifests = render(RESTRICTED | {"node": {"topology": topology}})
        containers = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
        (provisioner,) = [each for each in containers if each["name"] == "provisioner"]
        assert ("--immediate-topology=false" in provisioner["args"]) is expected


def test_what_attaches_volumes_on_a_machine_shares_its_locks() -> None:
    folders = set()
    for release, kind in (("box", "DaemonSet"), ("box", "Deployment"), ("other", "DaemonSet")):
        workload = next(each for each in render(HOST, release=release) if each["kind"] == kind)
        pod = workload["spec"]["template"]["spec"]
        container = pod["containers"][0]
        path = {entry["name"]: entry.get("value") for entry in container["env"]}["CINDERBOX_FILE_LOCKS_PATH"]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == path]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        folders.add(volume["hostPath"]["path"])
    assert len(folders) == 1


def test_nodes_know_which_features_are_disabled() -> None:
    """CSI, "GetPluginCapabilities": all instances answer the same."""
    (container,) = one(render(RESTRICTED), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert "CINDERBOX_DISABLED_FEATURES" not in {entry["name"] for entry in container["env"]}
    values = RESTRICTED | {"settings": {"disabled_features": ["expand", "clone"]}}
    (container,) = one(render(values), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    (entry,) = [entry for entry in container["env"] if entry["name"] == "CINDERBOX_DISABLED_FEATURES"]
    assert json.loads(entry["value"]) == ["expand", "clone"]
