"""/healthz, /readyz and /metrics of a running server."""

import contextlib
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from csi_plugin.protocol import csi_pb2
from tests.support.csi import GIB, MOUNT
from tests.support.network import free_ports
from tests.support.polling import wait_until
from tests.support.project import PROJECT
from tests.support.serving import Served, serving

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture(scope="module")
def server(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    environment = {"CINDERBOX_HTTP_ADDRESS": address}
    with serving(tmp_path_factory.mktemp("http"), environment=environment) as served:
        yield served


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(address: str) -> dict[str, float]:
    """Every sample, "name{label=value,...}"."""
    status, text = get(address, "/metrics")
    assert status == 200
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


@pytest.mark.root
def test_health(server: Served, address: str) -> None:
    assert get(address, "/healthz") == (200, "ok\n")
    assert get(address, "/readyz") == (200, "ok\n")
    assert get(address, "/else")[0] == 404


@pytest.mark.root
def test_calls_are_counted_by_method_and_status(server: Served, address: str) -> None:
    request = csi_pb2.CreateVolumeRequest(
        name="pvc-1", capacity_range=csi_pb2.CapacityRange(required_bytes=GIB), volume_capabilities=[MOUNT]
    )
    server.controller.CreateVolume(request)
    with pytest.raises(grpc.RpcError):
        server.controller.CreateVolume(csi_pb2.CreateVolumeRequest())

    found = metrics(address)

    assert found["cinderbox_rpc_duration_seconds_count{code=OK,method=CreateVolume}"] == 1
    assert found["cinderbox_rpc_duration_seconds_count{code=INVALID_ARGUMENT,method=CreateVolume}"] == 1
    assert found["cinderbox_rpc_duration_seconds_sum{code=OK,method=CreateVolume}"] > 0
    assert found["cinderbox_leader{}"] == 1
    assert found["cinderbox_backend_ready{backend=loop}"] == found["cinderbox_backend_up_to_date{backend=loop}"] == 1
    assert found["cinderbox_node_registered{node=test-node}"] == 1
    assert found["cinderbox_operations{}"] == 0
    pool = next(name for name in found if name.startswith("cinderbox_pool_capacity_bytes"))
    assert found[pool] > found[pool.replace("capacity", "free")] > 0


@pytest.mark.root
def test_every_metric_is_documented(server: Served, address: str) -> None:
    server.controller.ListVolumes(csi_pb2.ListVolumesRequest())
    text = get(address, "/metrics")[1]
    exported = set(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    documented = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert {(name, kind) for name, kind in exported if not name.endswith("_created")} == documented


@pytest.mark.root
def test_idle_connections_take_nothing_from_the_process(server: Served, address: str) -> None:
    """Anybody in the cluster's network can make some, and a process without descriptors serves nobody."""
    assert server.process is not None
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    host, port = address.split(":")
    before = len(list(descriptors.iterdir()))
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(300):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            connections.append(connection)
            if number % 50 == 0:
                assert get(address, "/healthz") == (200, "ok\n")

        def are_few() -> bool:
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")  # a client that is slow has more time than one that says nothing
            return len(list(descriptors.iterdir())) <= before + 70

        wait_until(are_few, server.log_text)
        assert get(address, "/healthz") == (200, "ok\n")
    assert get(address, "/readyz") == (200, "ok\n")


@pytest.mark.root
def test_a_standby_is_alive_and_not_ready(server: Served, address: str, tmp_path: Path) -> None:
    other = f"127.0.0.1:{free_ports(1)[0]}"
    standby = Served(
        tmp_path,
        mode="controller",
        persistence={"storage": "db", "connection": f"sqlite:///{server.database}"},
        environment={"CINDERBOX_HTTP_ADDRESS": other},
    )
    try:
        standby.start(wait=False)
        wait_until(lambda: _answers(other), standby.log_text)
        assert get(other, "/readyz")[0] == 503
        found = metrics(other)
        assert found["cinderbox_leader{}"] == 0
        assert not any(name.startswith("cinderbox_volumes") for name in found)
    finally:
        standby.close()


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("[::]", {"127.0.0.1", "[::1]"}),
        ("[::1]", {"[::1]"}),
        ("0.0.0.0", {"127.0.0.1"}),
    ],
)
def test_every_family_of_addresses(tmp_path: Path, host: str, reached_at: set[str]) -> None:
    port = free_ports(1)[0]
    registry = {"CINDERBOX_REGISTRY_ENDPOINT": f"unix://{tmp_path}/none.sock"}
    node = Served(tmp_path, mode="node", environment=registry | {"CINDERBOX_HTTP_ADDRESS": f"{host}:{port}"})
    try:
        node.start()
        assert {name for name in ("127.0.0.1", "[::1]") if _answers(f"{name}:{port}")} == reached_at
    finally:
        node.close()


@pytest.mark.root
def test_an_address_of_one_link() -> None:
    script = (
        "import socket; from csi_plugin.addresses import listening_address; "
        "family, address = listening_address('fe80::7%lo', 0); socket.socket(family).bind(address)"
    )
    own_network = 'ip link set lo up && ip -6 address add fe80::7/64 dev lo nodad && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", own_network, "sh", sys.executable, "-c", script]
    subprocess.run(command, check=True, cwd=PROJECT)


def test_a_wrong_address_is_refused(tmp_path: Path) -> None:
    served = Served(tmp_path, environment={"CINDERBOX_HTTP_ADDRESS": "8080"})
    try:
        served.start(wait=False)
        assert served.wait_for_exit() == 2
        assert "http_address" in served.log_text()
    finally:
        served.close()


def _answers(address: str) -> bool:
    try:
        return get(address, "/healthz")[0] == 200
    except OSError:
        return False
