"""docs/kubernetes.md, word by word: the release is removed with all its records, and plain manifests installed.

By its name the last one of this folder: it takes away the driver that the others use.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import NAMESPACE, VOLUMES, Cluster, claim
from tests.support.project import PROJECT

PAGE = (PROJECT / "docs/kubernetes.md").read_text()
VALUES = yaml.safe_load(Path(__file__).with_name("values.yaml").read_text())


def commands(after: str) -> str:
    """The indented block of the page that follows the line that ends with ``after``."""
    found = re.search(re.escape(after) + r"\n\n((?:    .*\n|\n(?=    ))+)", PAGE)
    assert found, f"docs/kubernetes.md has no commands after {after!r}"
    return re.sub("^    ", "", found[1], flags=re.MULTILINE)


def follow(script: str, folder: Path = PROJECT) -> None:
    path = f"PATH={PROJECT}/.venv/bin:{PROJECT}/.tools/kubernetes/bin:{os.environ['PATH']}"
    Cluster(NAMESPACE).run("enter", "env", "-C", str(folder), path, "bash", "-euc", script)


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


@pytest.mark.timeout(240)
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

    follow(commands("and then the CinderBackends. Then"))
    assert kept in driver.kubectl("get", "cvol", "-o", "name")
    follow(commands("that nothing protects them any more:"))
    assert kinds_and_namespaces(driver) == ("", "")
    assert f"volume-{kept}" in driver.files()

    manifests(tmp_path)
    follow(commands("Without Helm:"), tmp_path)
    for part in ("deployment/cinderbox-controller", "daemonset/cinderbox-node"):
        driver.kubectl("rollout", "status", part, "--timeout=90s")
    driver.kubectl("apply", "-f", str(PROJECT / "deploy/examples/storageclass.yaml"))
    cluster.check_claims_are_served(storageClassName="cinderbox")

    follow(commands("Without Helm, instead of these:"), tmp_path)
    follow(commands("that nothing protects them any more:"))
    assert kinds_and_namespaces(driver) == ("", "")
