"""csi-sanity, controller and node, on each protocol."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.csi_sanity import OF_SNAPSHOT_TOPOLOGY, names, report
from tests.lab import host
from tests.lab.backends import LabBackend
from tests.serving import Served


@pytest.mark.timeout(3600)
def test_csi_sanity(server: Served, backend: LabBackend, tmp_path: Path, shows: Callable[[str], None]) -> None:
    before = host.traces()

    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(f"backend: {backend.name}\n")
    results = report(server, tmp_path, f"--csi.testvolumeparameters={parameters}")

    assert names(results, "skipped") == [OF_SNAPSHOT_TOPOLOGY]
    assert len(names(results, "passed")) > 100
    assert host.traces() == before
    assert backend.objects() == []
    assert not any(host.exports().values())
    shows("csi-sanity")
