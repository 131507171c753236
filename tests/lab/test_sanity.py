"""csi-sanity, controller and node, on each protocol."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.csi_sanity import OF_SNAPSHOT_TOPOLOGY, names, report
from tests.lab import host
from tests.lab.backends import LabBackend
from tests.lab.servers import LabServer


@pytest.mark.timeout(3600)
def test_csi_sanity(server: LabServer, backend: LabBackend, tmp_path: Path, shows: Callable[[str], None]) -> None:
    before = host.traces()

    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(f"backend: {backend.name}\n")
    results = report(
        server.node_process,
        tmp_path,
        f"--csi.controllerendpoint={server.controller_process.socket}",
        f"--csi.testvolumeparameters={parameters}",
    )

    # None of the drivers makes groups.
    results = [spec for spec in results if "GroupController" not in "".join(spec["ContainerHierarchyTexts"] or ())]
    assert names(results, "skipped") == [OF_SNAPSHOT_TOPOLOGY]
    assert len(names(results, "passed")) > 90
    host.nothing_is_left(before, backend.objects())
    shows("csi-sanity")
