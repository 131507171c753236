"""Two controllers on one set of metadata: one serves; the other takes over, and the first does no harm any more."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from tests.support.csi import GIB, MOUNT, fails, in_time
from tests.support.databases import through
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.network import Cable
from tests.support.polling import wait_until
from tests.support.postgresql import PostgreSQL
from tests.support.serving import LOST, QUICK, Served

LEASE_SECONDS = 10
REFUSALS = LEASE_SECONDS + 2
"""How often the other one is refused the lease of one that has gone: it asks once a second until the lease runs out."""


@pytest.fixture
def lease_seconds() -> str:
    return str(LEASE_SECONDS)


@pytest.fixture(params=["db", "crd"])
def persistence(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Where the metadata is: in one database, or in one namespace."""
    if request.param == "db":
        return {"storage": "db", "connection": f"sqlite:///{tmp_path}/metadata.sqlite"}
    kubernetes: KubernetesAPI = request.getfixturevalue("kubernetes")
    return {"storage": "crd", "namespace": kubernetes.new_namespace(), "kubeconfig": str(kubernetes.kubeconfig)}


@pytest.fixture
def settle_seconds() -> str:
    return QUICK["CINDERBOX_SETTLE_SECONDS"]


@pytest.fixture
def environment(tmp_path: Path, lease_seconds: str, settle_seconds: str) -> dict[str, str]:
    return QUICK | {
        "TEST_GATE": str(tmp_path),
        "CINDERBOX_LEASE_SECONDS": lease_seconds,
        "CINDERBOX_SETTLE_SECONDS": settle_seconds,
        "CINDERBOX_SEALING_KEYS": generate_key(),
    }


def controller(folder: Path, name: str, persistence: dict[str, Any], environment: dict[str, str]) -> Served:
    driver = "tests.crash.drivers.GatedDriver"
    return Served(folder, mode="controller", driver=driver, persistence=persistence, environment=environment, name=name)


@pytest.fixture
def pair(tmp_path: Path, persistence: dict[str, Any], environment: dict[str, str]) -> Iterator[tuple[Served, Served]]:
    first, second = (controller(tmp_path, name, persistence, environment) for name in ("first", "second"))
    try:
        first.start()
        second.start(wait=False)
        # It polls the lease.
        wait_until(lambda: "holds the lease" in second.log_text(), second.log_text)
        yield first, second
    finally:
        first.close()
        second.close()


def create(served: Served, name: str, timeout: float = 60) -> str:
    request = csi_pb2.CreateVolumeRequest(
        name=name, capacity_range=csi_pb2.CapacityRange(required_bytes=GIB), volume_capabilities=[MOUNT]
    )
    volume_id: str = served.controller.CreateVolume(request, timeout=timeout).volume.volume_id
    return volume_id


def refusals(served: Served) -> int:
    """How often it has asked for the lease and was refused."""
    return served.log.read_text(errors="replace").count("another controller holds the lease")


def probed(served: Served) -> str:
    """What Probe says while it is not ready; it is given less than databases are."""
    try:
        served.identity.Probe(csi_pb2.ProbeRequest(), timeout=4)
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def listed(served: Served) -> list[str]:
    entries = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    return [entry.volume.volume_id for entry in entries]


def test_the_other_takes_over_from_a_killed_one(pair: tuple[Served, Served], tmp_path: Path) -> None:
    first, second = pair
    (tmp_path / "open").touch()
    volume_id = create(first, "pvc-1")
    assert not second.is_ready()
    with pytest.raises(grpc.RpcError):
        create(second, "pvc-2", timeout=2)

    first.kill()
    before = refusals(second)
    second.wait_until_ready()

    assert refusals(second) - before <= REFUSALS
    assert create(second, "pvc-1") == volume_id
    assert listed(second) == [volume_id]


@pytest.mark.parametrize("lease_seconds", ["600"])
def test_a_stopped_one_hands_over_at_once(pair: tuple[Served, Served], lease_seconds: str) -> None:
    first, second = pair
    assert first.stop() == 0
    second.wait_until_ready(timeout=60)  # long before the lease would have ended: it was given back


@pytest.mark.parametrize("lease_seconds", ["600"])
def test_a_killed_one_that_is_started_again_need_not_wait(pair: tuple[Served, Served], lease_seconds: str) -> None:
    first, second = pair
    first.kill()
    first.start()
    assert not second.is_ready()


@pytest.mark.parametrize("settle_seconds", ["3600"])
def test_a_frozen_one_does_no_harm_when_it_goes_on(
    pair: tuple[Served, Served], tmp_path: Path, settle_seconds: str
) -> None:
    """What it had told the storage goes on: its successor leaves that volume alone, and that one only."""
    first, second = pair
    assert first.process is not None
    gate = tmp_path / "open"
    gate.touch()
    old = csi_pb2.DeleteVolumeRequest(volume_id=create(first, "pvc-old"))
    (tmp_path / "reached").unlink()
    gate.unlink()
    with ThreadPoolExecutor(2) as pool:
        lost = pool.submit(create, first, "pvc-1")
        pool.submit(first.controller.DeleteVolume, old, timeout=60)
        wait_until(lambda: len(list(tmp_path.glob("reached*"))) == 2, first.log_text)
        first.process.send_signal(signal.SIGSTOP)
        second.wait_until_ready()
        gate.touch()
        with fails(grpc.StatusCode.ABORTED, old.volume_id, "the controller before this one"):
            in_time(lambda timeout: second.controller.DeleteVolume(old, timeout=timeout))
        volume_id = create(second, "pvc-1")
        second.command("volumes", "settle", "--yes")
        wait_until(lambda: listed(second) == [volume_id], second.log_text)
        assert second.files() == [f"volume-{volume_id}"]
        file = second.volumes / f"volume-{volume_id}"
        with file.open("r+b") as volume:
            volume.write(b"data of the pod")
        before = listed_whole(second)

        first.process.send_signal(signal.SIGCONT)

        assert first.wait_for_exit() in LOST
        with pytest.raises(grpc.RpcError):
            lost.result()
    assert listed(second) == [volume_id]
    assert file.read_bytes()[:15] == b"data of the pod"
    assert listed_whole(second) == before
    second.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id))
    assert listed(second) == []


def listed_whole(served: Served) -> bytes:
    answer = served.controller.ListVolumes(csi_pb2.ListVolumesRequest())
    return bytes(answer.SerializeToString(deterministic=True))


@pytest.fixture(params=["db", "crd"])
def distant(request: pytest.FixtureRequest) -> Iterator[tuple[Cable, dict[str, Any], dict[str, Any]]]:
    """Metadata on a server: the cable of one controller, its persistence, and that of another with a way of its own."""
    if request.param == "db":
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        cable = Cable(postgresql.socket)
        url = postgresql.create_database()
        ways = [{"storage": "db", "connection": connection} for connection in (through(cable, url), url)]
    else:
        kubernetes: KubernetesAPI = request.getfixturevalue("kubernetes")
        cable = Cable(kubernetes.port)
        namespace = kubernetes.new_namespace()
        files = [kubernetes.write_kubeconfig(name=f"{namespace}-{url[-5:]}", url=url) for url in (cable.url, "")]
        ways = [{"storage": "crd", "namespace": namespace, "kubeconfig": str(file)} for file in files]
    yield cable, *ways
    cable.close()


def test_one_that_is_cut_from_its_metadata_gives_way(
    distant: tuple[Cable, dict[str, Any], dict[str, Any]], tmp_path: Path, environment: dict[str, str]
) -> None:
    """It says so at once, starts no driver call any more and ends; what it was doing is done by the other one."""
    cable, *ways = distant
    first, second = (
        controller(tmp_path, name, way, environment) for name, way in zip(("first", "second"), ways, strict=True)
    )
    try:
        (tmp_path / "open").touch()
        first.start()
        second.start(wait=False)
        names = [f"pvc-{number}" for number in range(20)]
        done = {name: create(first, name) for name in names[:5]}
        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(create, first, name, 20) for name in names[5:]]
            cable.cut()
            if ways[0]["storage"] == "db":  # custom resources are read from a copy
                wait_until(lambda: "has not answered" in probed(first), first.log_text)
            before = refusals(second)
            second.wait_until_ready()
            assert refusals(second) - before <= REFUSALS
            assert first.wait_for_exit() in LOST
            for answer in running:
                answer.exception()  # some were answered before the cut
        volumes = {name: create(second, name) for name in names}
        assert {name: volumes[name] for name in done} == done
        assert sorted(volumes.values()) == sorted(listed(second))
        for volume_id in volumes.values():
            second.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id))
        wait_until(lambda: second.files() == [], lambda: second.files())
        assert listed(second) == []
    finally:
        first.close()
        second.close()
