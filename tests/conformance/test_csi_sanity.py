"""csi-sanity, the CSI project's own conformance suite, against a whole server with each kind of persistence."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.sealing import generate_key
from tests.kubernetes_api import KubernetesAPI
from tests.serving import loop_devices, mounts_below, serving

SANITY = Path(__file__).parents[2] / ".tools/bin/csi-sanity"
TOY_PLUGIN = Path(__file__).parents[1] / "toy_plugin"
PERSISTENCE = ("db", "memory_db", "memory", "toy")
# csi-sanity 5.6.0 compares the topology that it sent with the one that it got including protobuf's private size cache,
# so that no driver that says where its snapshots are usable can pass. tests/controller has the test instead, and
# without topology the capability is not claimed.
OF_SNAPSHOT_TOPOLOGY = "should succeed when creating a snapshot with accessibility requirements"
TOPOLOGY = {
    "X_CSI_TOPOLOGIES": '[{"topology.example/zone": "a"}]',
    "X_CSI_NODE_TOPOLOGY": '{"topology.example/zone": "a"}',
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("persistence", PERSISTENCE)
def test_csi_sanity_passes(persistence: str, tmp_path: Path) -> None:
    locations = {
        "db": {"connection": f"sqlite:///{tmp_path}/metadata.sqlite"},
        "toy": {"location": f"{tmp_path}/toy.sqlite"},
    }
    results = run_sanity(tmp_path, {"storage": persistence, **locations.get(persistence, {})}, {})

    assert names(results, "skipped") == [OF_SNAPSHOT_TOPOLOGY]
    assert len(names(results, "passed")) > 100


@pytest.mark.timeout(600)
def test_csi_sanity_passes_with_custom_resources(kubernetes: KubernetesAPI, tmp_path: Path) -> None:
    namespace = kubernetes.new_namespace()
    persistence = {"storage": "crd", "namespace": namespace, "kubeconfig": str(kubernetes.kubeconfig)}
    results = run_sanity(tmp_path, persistence, {"CINDERBOX_SEALING_KEYS": generate_key()})

    assert names(results, "skipped") == [OF_SNAPSHOT_TOPOLOGY]
    assert len(names(results, "passed")) > 100
    for kind in ("cvol", "csnap", "cconn", "cgrp", "cgsnap"):
        assert kubernetes.get(kind, "-n", namespace)["items"] == [], kind


@pytest.mark.timeout(600)
def test_csi_sanity_passes_with_topology(tmp_path: Path) -> None:
    results = run_sanity(tmp_path, {"storage": "memory"}, TOPOLOGY, f"--ginkgo.skip={OF_SNAPSHOT_TOPOLOGY}")

    assert names(results, "skipped") == [OF_SNAPSHOT_TOPOLOGY]
    assert len(names(results, "passed")) > 100


def run_sanity(
    folder: Path, persistence: dict[str, Any], environment: dict[str, str], *flags: str
) -> list[dict[str, Any]]:
    """csi-sanity's report on a new server, after checking that nothing failed and nothing was left behind."""
    report = folder / "report.json"
    environment = {
        "X_CSI_DEFAULT_MOUNT_FS": "xfs",  # grows while it is mounted in containers too, which ext4 does not
        "CINDERBOX_MAX_VOLUMES": "16",
        "PYTHONPATH": f"{TOY_PLUGIN.parents[1]}:{TOY_PLUGIN}",
        **environment,
    }
    with serving(folder, persistence=persistence, environment=environment) as server:
        done = subprocess.run(
            [
                str(SANITY),
                f"--csi.endpoint={server.socket}",
                f"--csi.mountdir={folder}/target",
                f"--csi.stagingdir={folder}/staging",
                f"--csi.testvolumesize={1024**3}",
                f"--csi.testvolumeexpandsize={2 * 1024**3}",
                "--csi.testnodevolumeattachlimit",
                "--ginkgo.no-color",
                f"--ginkgo.json-report={report}",
                *flags,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        left = server.files(), loop_devices(folder), mounts_below(folder)
    assert done.returncode == 0, done.stdout[-8000:]
    results: list[dict[str, Any]] = json.loads(report.read_text())[0]["SpecReports"]
    # A pending test is one that csi-sanity itself has switched off.
    assert {spec["State"] for spec in results} <= {"passed", "skipped", "pending"}
    assert left == ([], [], [])
    return results


def names(results: list[dict[str, Any]], state: str) -> list[str]:
    return [spec["LeafNodeText"] for spec in results if spec["State"] == state and spec["LeafNodeType"] == "It"]
