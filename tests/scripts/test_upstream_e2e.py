"""What Kubernetes' own storage suite is told of the driver: scripts/upstream_e2e_parts."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.project import PROJECT

PARTS = PROJECT / "scripts/upstream_e2e_parts"


def define(*values: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PARTS / "definition.py", PROJECT / "deploy/helm/cinderbox/values.yaml", *values]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_names_classes_that_the_values_make() -> None:
    values = PROJECT / "tests/cluster/values.yaml"
    definition: dict[str, Any] = yaml.safe_load(define(values).stdout)
    made = yaml.safe_load(values.read_text())
    for key, classes in (("StorageClass", "storageClasses"), ("SnapshotClass", "volumeSnapshotClasses")):
        assert definition[key]["FromExistingClassName"] in {one["name"] for one in made[classes]}
    own = {one["kind"]: one for one in yaml.safe_load_all((PARTS / "classes.yaml").read_text())}
    attributes, groups = own["VolumeAttributesClass"], own["VolumeGroupSnapshotClass"]
    assert definition["VolumeAttributesClass"]["FromExistingClassName"] == attributes["metadata"]["name"]
    assert definition["GroupSnapshotClass"]["FromExistingClassName"] == groups["metadata"]["name"]
    assert attributes["driverName"] == groups["driver"] == definition["DriverInfo"]["Name"]


def test_topology_is_claimed_where_the_nodes_have_one(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        """
        node: {topology: {topology.cinderbox.io/node: $(NODE_NAME)}}
        storageClasses: [{name: only}]
        """
    )
    driver = yaml.safe_load(define(values).stdout)["DriverInfo"]
    assert driver["TopologyKeys"] == ["topology.cinderbox.io/node"]
    assert driver["Capabilities"]["topology"]
    assert not driver["Capabilities"]["snapshotDataSource"], "there is no class of snapshots"


def test_values_without_a_class_are_refused() -> None:
    done = define()
    assert done.returncode == 1
    assert "storageClasses" in done.stderr


def test_the_selection_is_regular_expressions() -> None:
    lines = (PARTS / "selection").read_text().splitlines()
    chosen = [line for line in lines if not line.startswith("#")]
    assert chosen
    for line in chosen:
        re.compile(line)
        assert line == line.strip()
