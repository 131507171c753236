"""Many volumes attached to one node at once, each over a target and a session of its own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab import host
from tests.lab.backends import LabBackend
from tests.lab.data import read_block, write_block
from tests.lab.servers import LabServer
from tests.lab.volumes import LabClaim, MakeClaim

FEW, MANY = 5, 20
AT_ONCE = 4
NO_LIMIT = {"CINDERBOX_MAX_VOLUMES": "0"}


@pytest.mark.timeout(5400)  # emulated, an attachment takes half a minute
def test_twenty_volumes_on_one_node(server: LabServer, backend: LabBackend, claim: MakeClaim) -> None:
    volumes: list[LabClaim] = []
    written: dict[str, str] = {}
    held = []

    def use(volume: LabClaim) -> Path:
        return volume.use()

    def fill(volume: LabClaim) -> None:
        written[volume.id] = write_block(use(volume))

    server.start_node(**NO_LIMIT)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for count in (FEW, MANY):
            new = list(pool.map(lambda number: claim(f"claim-{number}", block=True), range(len(volumes), count)))
            list(pool.map(fill, new))
            volumes += new
            assert len(host.sessions()) == count
            assert [volume.health() for volume in volumes] == [[]] * count
            held.append(resources(server))
        few, many = held
        # Threads of calls that ran side by side may stay.
        assert all(many[kind] <= few[kind] + AT_ONCE for kind in few)
        server.start_node(**NO_LIMIT)
        assert len(host.sessions()) == MANY
        assert {volume.id: read_block(path) for volume, path in zip(volumes, pool.map(use, volumes), strict=True)} == (
            written
        )
        list(pool.map(LabClaim.take_away, volumes))
    assert not host.sessions()
    server.start_node()


def resources(server: LabServer) -> dict[str, int]:
    """What the node holds that is not one operation's."""
    process = server.node_process.process
    assert process is not None
    folder = Path(f"/proc/{process.pid}")
    return {"threads": len(list((folder / "task").iterdir())), "descriptors": len(list((folder / "fd").iterdir()))}
