"""The server is killed at every named point of a volume's life; the CO repeats its call and the life goes on."""

import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from csi_plugin.protocol import csi_pb2
from tests.support.devices import loop_devices, mounts_below
from tests.support.life import STEPS, Life
from tests.support.polling import wait_until
from tests.support.serving import QUICK, Served

# The step of a volume's life that comes to the points of that prefix.
STEP_OF_PREFIX = {
    "snapshot_delete": "delete_snapshot",
    "group_snapshot_delete": "delete_group_snapshot",
    "retype": "modify",
}
OF_OTHER_LIVES = ("adopt.", "move.", "unmanage.")
"""Of commands and programs that use the library, and of a node that comes back as another."""


def failpoints() -> list[str]:
    """Every point that the code names, so that a new one is tested from the beginning."""
    sources = (Path(__file__).parents[2] / "csi_plugin").rglob("*.py")
    found = {name for source in sources for name in re.findall(r'failpoint\("([^"]+)"\)', source.read_text())}
    return sorted(name for name in found if not name.startswith(OF_OTHER_LIVES))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with closing(Served(tmp_path, environment=QUICK)) as served:
        yield served


@pytest.mark.parametrize("point", failpoints())
def test_life_goes_on_after_a_crash(served: Served, point: str) -> None:
    step = STEP_OF_PREFIX.get(prefix := point.partition(".")[0], prefix)
    before, after = STEPS[: STEPS.index(step)], STEPS[STEPS.index(step) :]
    life = Life(served.start(CINDERBOX_FAILPOINT=point))
    life.run(*before)

    with pytest.raises(grpc.RpcError):
        life.run(step)
    assert served.wait_for_exit() == -signal.SIGKILL
    served.start()
    life.run(*after[:1])

    listed = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    expected = [] if step == "delete" else [life.volume.volume_id]
    assert [entry.volume.volume_id for entry in listed] == expected
    life.run(*after[1:])
    nothing_is_left(served)


def nothing_is_left(served: Served) -> None:
    """Wait until what recovery does in the background has come to its end, and check that no trace is left."""
    wait_until(lambda: not served.files() and not served.records(), lambda: f"{served.files()} {served.log}")
    assert loop_devices(served.folder) == []
    assert mounts_below(served.folder) == []
    assert list((served.state / "node/volumes").iterdir()) == []
    assert list((served.folder / "pod-1").iterdir()) == []
    assert served.stop() == 0


def test_what_a_try_left_is_held_past_the_undo_window(tmp_path: Path) -> None:
    served = Served(tmp_path, environment=QUICK | {"CINDERBOX_UNDO_WINDOW_SECONDS": "0"})
    try:
        life = Life(served.start(CINDERBOX_FAILPOINT="create.driver_done"))
        with pytest.raises(grpc.RpcError):
            life.create()
        (left,) = served.files()
        served.wait_for_exit()
        served.start()
        life.create()
        wait_until(lambda: "held: " in served.command("volumes", "leftovers"), served.log_text)
        life.delete()

        assert served.files() == [left]
        assert left.removeprefix("volume-") in served.command("volumes", "leftovers")
        assert served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries == []
    finally:
        served.close()
