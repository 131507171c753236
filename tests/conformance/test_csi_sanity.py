"""csi-sanity, the CSI project's own conformance suite, against a whole server with each kind of persistence."""

from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.sealing import generate_key
from tests.conformance.csi_sanity import ENVIRONMENT, OF_SNAPSHOT_TOPOLOGY, names, report
from tests.support.devices import loop_devices, mounts_below
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.serving import serving

TOY_PLUGIN = Path(__file__).parents[1] / "toy_plugin"
PERSISTENCE = ("db", "memory_db", "memory", "toy")
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
    environment = {"PYTHONPATH": f"{TOY_PLUGIN.parents[1]}:{TOY_PLUGIN}", **ENVIRONMENT, **environment}
    with serving(folder, persistence=persistence, environment=environment) as server:
        results = report(server, folder, *flags)
        left = server.files(), loop_devices(folder), mounts_below(folder)
    assert left == ([], [], [])
    return results
