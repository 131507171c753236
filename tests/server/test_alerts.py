"""The alerts that fire on what running processes export, when there is a cause."""

import json
import subprocess
import urllib.request
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from csi_plugin.protocol import csi_pb2
from csi_plugin.server.metrics import COUNT_SECONDS
from tests.support.csi import create_request
from tests.support.network import free_ports
from tests.support.polling import wait_until
from tests.support.project import PROJECT
from tests.support.serving import Served, serving

pytestmark = [pytest.mark.root, pytest.mark.kubernetes]  # promtool is built with it

_MINUTES = 90
_NOT_HERE = {"CinderboxOperationStuck", "CinderboxBackendNotUpToDate"}
"""One takes half an hour; the other is of CinderBackends, and tests/server/test_cinder_backends.py has its cause."""


def metrics(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def firing(text: str, folder: Path) -> set[str]:
    """The names of the alerts that fire after what a process exports has been so for long."""
    series = [
        {
            "series": f"{sample.name}{{{', '.join(f'{name}={json.dumps(value)}' for name, value in labels.items())}}}",
            # What is counted goes on being counted.
            "values": f"0+{sample.value}x{_MINUTES}"
            if sample.name.endswith("_count")
            else f"{sample.value}x{_MINUTES}",
        }
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("cinderbox_") and not sample.name.endswith("_created")
        for labels in [{"namespace": "box", "pod": "a"} | sample.labels]
    ]
    expression = {"expr": 'group by (alertname) (ALERTS{alertstate="firing"})', "eval_time": f"{_MINUTES}m"}
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": [expression]}]
    rules = {"rule_files": [str(PROJECT / "deploy/monitoring/alerts.yaml")], "evaluation_interval": "1m"}
    file = folder / "test.yaml"
    file.write_text(json.dumps(rules | {"tests": tests}))
    # It expects none, and tells what there is.
    told = subprocess.run(
        [PROJECT / ".tools/bin/promtool", "test", "rules", file], capture_output=True, text=True, check=False
    )
    return {part.partition('"')[0] for part in (told.stdout + told.stderr).split('alertname="')[1:]}


def wait_for(alerts: set[str], address: str, folder: Path) -> None:
    """Until a process exports what makes just these alerts fire: what it counts and looks at, it does by and by. It may
    have counted while a deletion was tried again, and counts anew after a minute."""
    wait_until(
        lambda: firing(metrics(address), folder) == alerts,
        lambda: f"{sorted(firing(metrics(address), folder))}, not {sorted(alerts)}",
        timeout=2 * COUNT_SECONDS,
    )


@pytest.mark.timeout(300)
def test_alerts_have_their_causes(tmp_path: Path) -> None:
    rules = (PROJECT / "deploy/monitoring/alerts.yaml").read_text()
    alerts = {line.partition("alert: ")[2] for line in rules.splitlines() if "- alert: " in line}
    nodes = {"CinderboxNoActiveController", "CinderboxNodeNotRegistered"}
    faulty = "tests.controller.drivers.FaultyDriver"
    backends = [
        {"name": "faulty", "driver": faulty, "loop_volumes_dir": str(tmp_path / "faulty")},
        {"name": "full", "driver": faulty.replace("Faulty", "Filling"), "loop_volumes_dir": str(tmp_path / "full")},
        {"name": "away", "driver": faulty.replace("Faulty", "Away"), "loop_volumes_dir": str(tmp_path / "away")},
    ]
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    environment = {"X_CSI_BACKEND_CONFIG": json.dumps(backends), "CINDERBOX_HTTP_ADDRESS": addresses[0]}
    with serving(tmp_path, environment=environment) as served:
        volume = served.controller.CreateVolume(create_request("undeletable", 1, parameters={"backend": "faulty"}))
        with pytest.raises(grpc.RpcError):
            # What it leaves stays: it cannot be deleted either.
            served.controller.CreateVolume(create_request("after-undeletable", 1, parameters={"backend": "faulty"}))
        for _ in range(2):  # the second waits for recovery, which has begun meanwhile and tries it too
            with pytest.raises(grpc.RpcError):
                served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume.volume_id))
        wait_for(alerts - nodes - _NOT_HERE, addresses[0], tmp_path)
    registry = {"CINDERBOX_REGISTRY_ENDPOINT": f"unix://{tmp_path}/none.sock"}
    node = Served(tmp_path, mode="node", environment=registry | {"CINDERBOX_HTTP_ADDRESS": addresses[1]})
    try:
        node.start()
        wait_for(nodes, addresses[1], tmp_path)
    finally:
        node.close()
