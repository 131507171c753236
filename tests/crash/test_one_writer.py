"""A controller that may have lost its lease calls no driver any more, whatever it waited for meanwhile."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import psycopg
import pytest

from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from tests.crash.witness import check_one_at_a_time, reigns
from tests.support.csi import create_request
from tests.support.polling import wait_until
from tests.support.postgresql import PostgreSQL
from tests.support.serving import LOST, QUICK, Served


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


@contextmanager
def lease_of_first_hangs(judge: psycopg.Connection) -> Iterator[None]:
    """The server's process behind the connection by which it renews its lease answers nothing."""
    (pid,) = judge.execute(  # the connection that it opened first
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'first' ORDER BY backend_start LIMIT 1"
    ).fetchone() or (0,)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def refusals(served: Served) -> int:
    """How often it has asked for the lease and was refused."""
    return served.log.read_text(errors="replace").count("another controller holds the lease")


@pytest.mark.root
def test_a_creation_that_waited_for_a_table_makes_nothing(tmp_path: Path, postgresql: PostgreSQL) -> None:
    url, witness = postgresql.create_database(), tmp_path / "witness"
    environment = QUICK | {
        "CINDERBOX_LEASE_SECONDS": "7",
        "CINDERBOX_SEALING_KEYS": generate_key(),
        "TEST_WITNESS": str(witness),
    }
    first, second = (
        Served(
            tmp_path,
            mode="controller",
            driver="tests.crash.drivers.WitnessedDriver",
            persistence={"storage": "db", "connection": f"{url}&application_name={name}"},
            environment=environment,
            name=name,
        )
        for name in ("first", "second")
    )
    try:
        first.start()
        second.start(wait=False)
        first.controller.CreateVolume(create_request("pvc-0"))
        with connected(url) as judge, connected(url) as locker, ThreadPoolExecutor(1) as pool:
            locker.autocommit = False
            with lease_of_first_hangs(judge):
                # Not at once: the server lets nobody wait for a lock for longer than the rest of the lease.
                refused = refusals(second)
                wait_until(lambda: refusals(second) >= refused + 2, second.log_text)
                locker.execute("LOCK TABLE volumes IN SHARE MODE")  # readers pass
                lost = pool.submit(first.controller.CreateVolume, create_request("pvc-1"), timeout=60)
                waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'first' AND wait_event_type = 'Lock'"
                wait_until(lambda: judge.execute(waiting).fetchone() is not None, first.log_text)
                second.wait_until_ready()
                locker.rollback()
                assert first.wait_for_exit() in LOST
            with pytest.raises(grpc.RpcError):
                lost.result()
        volume_id = second.controller.CreateVolume(create_request("pvc-1")).volume.volume_id
        entries = second.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
        assert volume_id in [entry.volume.volume_id for entry in entries]
        assert len(entries) == 2
        assert len(reigns(witness)) == 2
        check_one_at_a_time(witness)
    finally:
        first.close()
        second.close()
