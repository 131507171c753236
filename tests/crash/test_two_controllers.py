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
from csi_plugin.server.serve import EXIT_LEADERSHIP_LOST
from tests.support.csi import GIB, MOUNT
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.network import Cable
from tests.support.polling import wait_until
from tests.support.serving import QUICK, Served

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
def environment(tmp_path: Path, lease_seconds: str) -> dict[str, str]:
    return QUICK | {
        "TEST_GATE": str(tmp_path),
        "CINDERBOX_LEASE_SECONDS": lease_seconds,
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


def test_a_frozen_one_does_no_harm_when_it_goes_on(pair: tuple[Served, Served], tmp_path: Path) -> None:
    first, second = pair
    assert first.process is not None
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(create, first, "pvc-1")
        wait_until((tmp_path / "reached").exists, first.log_text)
        first.process.send_signal(signal.SIGSTOP)
        second.wait_until_ready()
        (tmp_path / "open").touch()
        volume_id = create(second, "pvc-1")
        file = second.volumes / f"volume-{volume_id}"
        with file.open("r+b") as volume:
            volume.write(b"data of the pod")
        before = listed_whole(second)

        first.process.send_signal(signal.SIGCONT)

        assert first.wait_for_exit() == EXIT_LEADERSHIP_LOST
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


def test_one_that_is_cut_from_the_api_server_gives_way(
    kubernetes: KubernetesAPI, tmp_path: Path, environment: dict[str, str]
) -> None:
    """It starts no driver call any more and ends; what it was doing is done by the other one."""
    cable = Cable(kubernetes.port)
    namespace = kubernetes.new_namespace()
    first, second = (
        controller(
            tmp_path,
            name,
            {
                "storage": "crd",
                "namespace": namespace,
                "kubeconfig": str(kubernetes.write_kubeconfig(name=f"{namespace}-{name}", url=url)),
            },
            environment,
        )
        for name, url in (("first", cable.url), ("second", ""))
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
            before = refusals(second)
            second.wait_until_ready()
            assert refusals(second) - before <= REFUSALS
            assert first.wait_for_exit() == EXIT_LEADERSHIP_LOST
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
        cable.close()
        first.close()
        second.close()
