"""What a controller does while the API server is not well: the rows of the table in docs/kubernetes.md.

A watch that falls silent and an etcd that was compacted are tried in tests/persistence/test_crd.py, where one need not
wait for minutes; a network that swallows what is sent in tests/crash/test_two_controllers.py.
"""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from tests.support.csi import create_request
from tests.support.kubernetes_api import FaultyProxy, KubernetesAPI
from tests.support.network import Cable
from tests.support.polling import wait_until
from tests.support.serving import LOST, Served

LATE_SECONDS = 5
RENEWALS = 3
"""As many of them as one lease needs, by which it would have run out without them."""


@pytest.fixture(scope="module")
def proxy(kubernetes: KubernetesAPI) -> Iterator[FaultyProxy]:
    made = FaultyProxy(kubernetes)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cable(proxy: FaultyProxy) -> Iterator[Cable]:
    made = Cable(proxy.port)
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(kubernetes: KubernetesAPI, cable: Cable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    namespace = kubernetes.new_namespace()
    kubeconfig = kubernetes.write_kubeconfig(name=namespace, url=f"http://127.0.0.1:{cable.port}")
    persistence = {"storage": "crd", "namespace": namespace, "kubeconfig": str(kubeconfig)}
    folder: Path = tmp_path_factory.mktemp("faults")
    environment = {"CINDERBOX_SEALING_KEYS": generate_key()}
    one = Served(folder, mode="controller", persistence=persistence, environment=environment)
    try:
        yield one.start()
    finally:
        one.close()


def create(served: Served, name: str, timeout: float = 60) -> str:
    volume_id: str = served.controller.CreateVolume(create_request(name), timeout=timeout).volume.volume_id
    return volume_id


def listed(served: Served, timeout: float = LATE_SECONDS - 1) -> list[str]:
    """What it lists without a word with the API server."""
    entries = served.controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=timeout).entries
    return [entry.volume.volume_id for entry in entries]


def code_of_creation(served: Served, name: str) -> grpc.StatusCode:
    try:
        create(served, name)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_slow_answers(served: Served, proxy: FaultyProxy) -> None:
    """Reads cost none; what changes something takes one for each write. The lease is kept."""
    before = proxy.answered["PUT leases"]
    proxy.delay_seconds = LATE_SECONDS
    try:
        served.wait_until_ready()
        volume_id = create(served, "pvc-slow")
        assert volume_id in listed(served)
        wait_until(lambda: proxy.answered["PUT leases"] >= before + RENEWALS, served.log_text, timeout=90)
    finally:
        proxy.delay_seconds = 0
    served.wait_until_ready()


def test_too_many_requests(served: Served, proxy: FaultyProxy) -> None:
    """Writes are repeated for a while, then they are UNAVAILABLE, and the orchestrator repeats them."""
    volume_id = create(served, "pvc-refused")
    proxy.is_refusing = True
    try:
        assert code_of_creation(served, "pvc-2") is grpc.StatusCode.UNAVAILABLE
        assert volume_id in listed(served)
        served.wait_until_ready()
    finally:
        proxy.is_refusing = False
    wait_until(lambda: code_of_creation(served, "pvc-2") is grpc.StatusCode.OK, served.log_text)


def test_a_broken_watch(served: Served, cable: Cable) -> None:
    """What comes while all is read again waits for it."""
    ends = served.log.read_text().count("the watch of cindervolumes ended")
    cable.unplug()
    try:
        wait_until(
            lambda: served.log.read_text().count("the watch of cindervolumes ended") > ends, served.log_text, timeout=60
        )
        created = served.controller.CreateVolume.future(create_request("pvc-watched"), timeout=60)
    finally:
        cable.plug_in()
    assert created.result().volume.volume_id in listed(served)


def test_away(served: Served, cable: Cable) -> None:
    """Reads go on until the lease is lost; then nothing is served until the API server is back."""
    volume_id = create(served, "pvc-kept")
    cable.unplug()
    try:
        assert volume_id in listed(served)
        served.wait_until_ready()
        assert code_of_creation(served, "pvc-away") is grpc.StatusCode.UNAVAILABLE
        assert served.wait_for_exit() in LOST
        served.start(wait=False)
        wait_until(lambda: "cannot read the lease" in served.log_text(), served.log_text)
        assert not served.is_ready()
    finally:
        cable.plug_in()
    served.wait_until_ready()
    assert volume_id in listed(served)
    assert code_of_creation(served, "pvc-away") is grpc.StatusCode.OK
