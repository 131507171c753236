"""README.md and docs/kubernetes.md, word by word, from removal to installation, twice: by Helm, and without it.

By its name the last one of this folder: it takes away the driver that the others use.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import NAMESPACE, VOLUMES, Cluster, claim
from tests.cluster.page_commands import follow
from tests.support.pages import commands
from tests.support.project import PROJECT

README, PAGE = "README.md", "docs/kubernetes.md"
VALUES = yaml.safe_load(Path(__file__).with_name("values.yaml").read_text())


def kinds_and_namespaces(cluster: Cluster) -> tuple[str, str]:
    kinds = cluster.run("kubectl", "api-resources", "--api-group=cinderbox.io", "-o", "name")
    return kinds, cluster.run("kubectl", "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")


def manifests(folder: Path) -> None:
    """A copy of deploy/ in which the values are changed and the manifests rendered again."""
    shutil.copytree(PROJECT / "deploy", folder / "deploy")
    (folder / "scripts/generate").mkdir(parents=True)
    shutil.copy(PROJECT / "scripts/generate/manifests.py", folder / "scripts/generate")
    (folder / ".tools").symlink_to(PROJECT / ".tools")
    values = folder / "deploy/kubernetes/values.yaml"
    changed = {name: VALUES[name] for name in ("hostPaths", "controller", "node")}
    values.write_text(yaml.safe_dump(yaml.safe_load(values.read_text()) | changed))
    backend = {
        "apiVersion": "cinderbox.io/v1",
        "kind": "CinderBackend",
        "metadata": {"name": "fast", "namespace": NAMESPACE},
        "spec": {"driver": VALUES["backends"][0]["driver"], "options": {"loop_volumes_dir": f"{VOLUMES}/plain"}},
    }
    (folder / "backend.yaml").write_text(yaml.safe_dump(backend))
    subprocess.run([sys.executable, folder / "scripts/generate/manifests.py"], check=True)


def install_by_helm(folder: Path) -> None:
    """As the page says, with the values of README.md's first look, of which `helm test` makes a claim."""
    folder.mkdir()
    (folder / "deploy").symlink_to(PROJECT / "deploy")
    values = yaml.safe_load((PROJECT / "deploy/examples/values.yaml").read_text())
    changed = {name: values.get(name, {}) | VALUES[name] for name in ("controller", "node")}
    (folder / "values.yaml").write_text(yaml.safe_dump(values | changed))
    said = follow(commands(PAGE, "and"), folder)
    assert "8 MiB written by one pod and read by another" in said
    assert "the claim is gone" in said


def follow_outside(script: str) -> None:
    """README.md's commands enter the cluster by themselves."""
    subprocess.run(["bash", "-euc", script], cwd=PROJECT, check=True, timeout=180)


@pytest.mark.timeout(500)
def test_release_is_removed_and_plain_manifests_are_installed(
    cluster: Cluster, driver: Cluster, tmp_path: Path
) -> None:
    cluster.apply(claim("kept"))
    cluster.wait("pvc/kept", "jsonpath={.status.phase}=Bound")
    kept, name = cluster.volume_of("kept"), cluster.get("pvc", "kept")["spec"]["volumeName"]
    retain = json.dumps({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    cluster.kubectl("patch", "pv", name, "-p", retain)
    cluster.delete("pvc", "kept")
    cluster.delete("pv", name)

    follow(commands(PAGE, "and then the CinderBackends. Then"))
    assert kept in driver.kubectl("get", "cvol", "-o", "name")
    removal = commands(PAGE, "and `pip install 'cinderbox[crd]'`:")
    follow(removal.replace("cinderbox uninstall", "cinderbox uninstall --leave-volumes"))
    assert kinds_and_namespaces(driver) == ("", "")
    assert f"volume-{kept}" in driver.files()

    install_by_helm(tmp_path / "helm")
    follow_outside(commands(README, "applies a claim, and a pod that writes on its volume:"))
    follow(commands(PAGE, "so they come first:"), tmp_path / "helm")
    follow(commands(PAGE, "## When something takes too long"))
    volume = Cluster("default").volume_of("data")
    follow_outside(commands(README, "and this ends it:"))
    cluster.wait_until_gone(volume)
    follow(commands(PAGE, "and then the CinderBackends. Then"))
    follow(removal)
    assert kinds_and_namespaces(driver) == ("", "")

    manifests(tmp_path)
    follow(commands(PAGE, "Without Helm:"), tmp_path)
    for part in ("deployment/cinderbox-controller", "daemonset/cinderbox-node"):
        driver.kubectl("rollout", "status", part, "--timeout=90s")
    driver.kubectl("apply", "-f", str(PROJECT / "deploy/examples/storageclass.yaml"))
    cluster.check_claims_are_served(storageClassName="cinderbox")

    follow(commands(PAGE, "or, without Helm,"), tmp_path)
    follow(removal)
    assert kinds_and_namespaces(driver) == ("", "")
