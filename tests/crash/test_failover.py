"""An active controller and a standby under many clients, while the active one is killed or frozen again and again."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from tests.crash.witness import check_one_at_a_time
from tests.support.csi import create_request
from tests.support.life import PASSING, Client
from tests.support.polling import wait_until
from tests.support.postgresql import PostgreSQL
from tests.support.serving import LOST, QUICK, Served

CLIENTS = 64
DRIVER = "tests.crash.drivers.WitnessedDriver"
FAILOVERS = int(os.environ.get("FAILOVERS", "2"))
"""Every second one is a freeze; `make failover` has many."""
PATIENCE = 90
"""Seconds until what one failover is to bring has come, on a busy machine."""


class Pair:
    """Two controllers on one database and one storage."""

    def __init__(self, folder: Path, connection: str) -> None:
        environment = QUICK | {
            "CINDERBOX_LOG_LEVEL": "info",
            "CINDERBOX_LEASE_SECONDS": "5",
            # A driver call of the frozen one may end when it goes on.
            "CINDERBOX_SETTLE_SECONDS": "20",
            "CINDERBOX_SEALING_KEYS": generate_key(),
            "TEST_WITNESS": str(folder / "witness"),
        }
        self.witness = folder / "witness"
        persistence = {"storage": "db", "connection": connection}
        self.active, self.standby = (
            Served(
                folder, mode="controller", driver=DRIVER, persistence=persistence, environment=environment, name=name
            )
            for name in ("first", "second")
        )
        self.active.start()
        self.standby.start(wait=False)

    def kill(self) -> None:
        """The active one is gone, and comes back as a standby."""
        gone = self.active
        gone.kill()
        self._take_over()
        gone.start(wait=False)

    def freeze(self) -> None:
        """The active one stands still until the other one is active; it does not go on then."""
        frozen = self.active
        assert frozen.process is not None
        frozen.process.send_signal(signal.SIGSTOP)
        self._take_over()
        frozen.process.send_signal(signal.SIGCONT)
        assert frozen.wait_for_exit(PATIENCE) in LOST
        frozen.start(wait=False)

    def _take_over(self) -> None:
        self.standby.wait_until_ready(timeout=PATIENCE)
        self.active, self.standby = self.standby, self.active

    def close(self) -> None:
        self.active.close()
        self.standby.close()


class CO(threading.Thread):
    """Creates and deletes volumes of its own, and repeats each call until it is answered, as orchestrators do."""

    def __init__(self, number: int, clients: dict[str, Client], active: Callable[[], Served], stop: threading.Event):
        super().__init__(name=f"co-{number}", daemon=True)
        self._number, self._clients, self._active, self._stop_event = number, clients, active, stop
        self._random = random.Random(number)
        self.volumes: dict[str, str] = {}
        """What it was told of: ids by name."""
        self.told = 0
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stop_event.is_set():
                if self.volumes and self._random.random() < 0.4:
                    self._delete_volume(self._random.choice(list(self.volumes)))
                elif self.volumes and self._random.random() < 0.2:
                    name = self._random.choice(list(self.volumes))
                    assert self._create_volume(name) == self.volumes[name]
                else:
                    name = f"pvc-{self._number}-{self.told}"
                    self.volumes[name] = self._create_volume(name)
                self.told += 1
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            self.fault = error

    def _create_volume(self, name: str) -> str:
        volume_id: str = self._call("CreateVolume", create_request(name)).volume.volume_id
        return volume_id

    def _delete_volume(self, name: str) -> None:
        self._call("DeleteVolume", csi_pb2.DeleteVolumeRequest(volume_id=self.volumes[name]))
        del self.volumes[name]

    def _call(self, method: str, request: Any) -> Any:
        while True:
            client = self._clients[self._active().state.name]
            try:
                return getattr(client.controller, method)(request, timeout=10)
            except grpc.RpcError as error:
                if error.code() not in PASSING | {grpc.StatusCode.CANCELLED}:
                    raise
            threading.Event().wait(self._random.uniform(0.05, 0.5))  # as COs back off


@contextmanager
def working(pair: Pair) -> Iterator[list[CO]]:
    """Clients that go on until the block's end, and have the answers to all their calls then."""
    clients = {served.state.name: Client(served) for served in (pair.active, pair.standby)}
    stop = threading.Event()
    cos = [CO(number, clients, lambda: pair.active, stop) for number in range(CLIENTS)]
    for co in cos:
        co.start()
    try:
        yield cos
    finally:
        stop.set()
        for co in cos:
            co.join(PATIENCE)
    assert [co.fault for co in cos if co.fault] == []
    assert not [co.name for co in cos if co.is_alive()]


def finished_files(pair: Pair) -> set[str]:
    """All but what a driver that was killed was making, which goes when it starts the next time."""
    return {name for name in pair.active.files() if not name.startswith(".")}


@pytest.mark.timeout(120 + 2 * PATIENCE * FAILOVERS)
def test_there_are_exactly_the_volumes_that_clients_were_told_of(tmp_path: Path, postgresql: PostgreSQL) -> None:
    moments = random.Random(17)
    pair = Pair(tmp_path, postgresql.create_database())
    try:
        with working(pair) as cos:
            for number in range(FAILOVERS):
                before, wanted = sum(co.told for co in cos), moments.randrange(1, 2 * CLIENTS)
                wait_until(
                    lambda before=before, wanted=wanted: sum(co.told for co in cos) >= before + wanted,
                    pair.active.log_text,
                    timeout=PATIENCE,
                )
                (pair.freeze if number % 2 else pair.kill)()
        check_one_at_a_time(pair.witness)
        told = {volume_id for co in cos for volume_id in co.volumes.values()}
        assert len(told) == sum(len(co.volumes) for co in cos)
        entries = pair.active.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
        assert {entry.volume.volume_id for entry in entries} == told
        files = {f"volume-{volume_id}" for volume_id in told}
        assert files <= finished_files(pair)
        # What attempts left that were cut off goes when they have settled.
        wait_until(lambda: finished_files(pair) == files, lambda: finished_files(pair) ^ files, PATIENCE)
    finally:
        pair.close()
