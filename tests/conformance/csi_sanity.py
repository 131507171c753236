"""Runs csi-sanity, the CSI project's own conformance suite, against a server, and reads its report."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.serving import Served

SANITY = Path(__file__).parents[2] / ".tools/bin/csi-sanity"
# csi-sanity 5.6.0 compares the topology that it sent with the one that it got including protobuf's private size cache,
# so that no driver that says where its snapshots are usable can pass. tests/controller has the test instead, and
# without topology the capability is not claimed.
OF_SNAPSHOT_TOPOLOGY = "should succeed when creating a snapshot with accessibility requirements"
ENVIRONMENT = {
    "X_CSI_DEFAULT_MOUNT_FS": "xfs",  # grows while it is mounted in containers too, which ext4 does not
    "CINDERBOX_MAX_VOLUMES": "16",
}
"""Settings of the server that the suite relies on."""


def report(server: Served, folder: Path, *flags: str) -> list[dict[str, Any]]:
    """The report on a running server, after checking that nothing failed."""
    file = folder / "report.json"
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
            f"--ginkgo.json-report={file}",
            *flags,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    results: list[dict[str, Any]] = json.loads(file.read_text())[0]["SpecReports"]
    # A pending test is one that csi-sanity itself has switched off.
    assert {spec["State"] for spec in results} <= {"passed", "skipped", "pending"}
    return results


def names(results: list[dict[str, Any]], state: str) -> list[str]:
    return [spec["LeafNodeText"] for spec in results if spec["State"] == state and spec["LeafNodeType"] == "It"]
