"""The whole machine is reset, as by a power cut, while volumes are staged: targets, controller and node with it.

scripts/storage_lab does that between the two tests here; /kept is on a disk.
"""

import json
import os
from pathlib import Path

import pytest

from tests.lab import host
from tests.lab.backends import BACKENDS
from tests.lab.data import read_file, write_file
from tests.lab.servers import LabServer
from tests.lab.volumes import LabClaim
from tests.support.polling import wait_until

KEPT = Path("/kept")
CHECKSUMS = KEPT / "checksums.json"
# Not Ceph, whose monitor keeps its store in the guest's memory.
RESET_BACKENDS = [backend for backend in BACKENDS if backend.name in ("iscsi", "nvme", "nfs")]


@pytest.mark.before_reset
def test_volumes_are_staged() -> None:
    server = LabServer(KEPT, RESET_BACKENDS).start()
    checksums = {claim.folder.name: write_file(claim.use()) for claim in claims(server)}
    CHECKSUMS.write_text(json.dumps(checksums))
    os.sync()
    # Server and volumes stay as they are: the machine is reset now.


@pytest.mark.after_reset
@pytest.mark.timeout(1200)
def test_volumes_are_whole_after_a_reset() -> None:
    # What a host's init does when it starts: no record of a volume's target may be for that.
    host.run("iscsiadm", "--mode", "node", "--loginall=automatic", check=False)
    assert host.sessions() == {}
    before = host.traces()
    server = LabServer(KEPT, RESET_BACKENDS).start()
    try:
        wait_until(is_exported, host.exports, timeout=180)
        checksums = json.loads(CHECKSUMS.read_text())
        for claim in claims(server):
            assert read_file(claim.use()) == checksums[claim.folder.name]
            claim.remove()
    finally:
        server.close()
    host.nothing_is_left(before, [name for backend in RESET_BACKENDS for name in backend.objects()])


def is_exported() -> bool:
    exports = host.exports()
    return bool(exports["iSCSI targets"] and exports["NVMe subsystems"])


def claims(server: LabServer) -> list[LabClaim]:
    """A claim on each backend: the same ones each time, since their names are."""
    return [LabClaim(server, backend, KEPT / backend.name, name=backend.name) for backend in RESET_BACKENDS]
