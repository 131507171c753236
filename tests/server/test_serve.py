"""``cinderbox serve`` as a process: how it starts, listens, logs and stops."""

import ctypes
import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc, node_registry_pb2, node_registry_pb2_grpc
from tests.support.csi import GIB, MOUNT, fails
from tests.support.network import free_ports
from tests.support.polling import wait_until
from tests.support.serving import Served, serving

MEMORY = {"storage": "memory"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, persistence=MEMORY, environment={"CINDERBOX_LOG_FORMAT": "json"}) as served:
        yield served


def create(served: Served, name: str, **fields: object) -> csi_pb2.Volume:
    request = csi_pb2.CreateVolumeRequest(
        name=name,
        capacity_range=csi_pb2.CapacityRange(required_bytes=GIB),
        volume_capabilities=[MOUNT],
        **fields,
    )
    return served.controller.CreateVolume(request, timeout=30).volume


def log_lines(served: Served) -> list[dict[str, object]]:
    return [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]


def test_health_and_reflection(served: Served) -> None:
    health = health_pb2_grpc.HealthStub(served.channel)
    for service in ("", "csi.v1.Identity", "csi.v1.Controller", "csi.v1.GroupController", "csi.v1.Node"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    reflection = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    (answer,) = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"csi.v1.Identity", "csi.v1.Controller", "csi.v1.Node", "grpc.health.v1.Health"} <= names


def test_the_socket_is_for_root_alone(served: Served) -> None:
    assert served.socket.stat().st_mode & 0o777 == 0o600


def test_every_request_has_an_id_in_the_log_and_no_secret(served: Served) -> None:
    create(served, "pvc-1", secrets={"password": "hunter2-create"})
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        served.controller.CreateVolume.with_call(
            csi_pb2.CreateVolumeRequest(name="x" * 200, secrets={"token": "hunter2-bad"}),
            metadata=[("x-request-id", "request-of-the-test")],
        )
    lines = log_lines(served)
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    of_request = [line for line in lines if line.get("request_id") == "request-of-the-test"]
    assert {line["event"] for line in of_request} == {"request", "CreateVolume"}
    (made,) = [line for line in lines if line["event"] == "CreateVolume" and line.get("name") == "pvc-1"]
    assert made["code"] == "OK"
    assert made["request_id"]
    assert float(str(made["seconds"])) > 0
    of_driver = [line for line in lines if str(line.get("logger", "")).startswith(("cinder", "csi_plugin.storage"))]
    assert of_driver, "what Cinder logs is in the same form"
    assert "hunter2" not in served.log.read_text()


@pytest.mark.parametrize("shape", ["passw", "password='", "CHAP a "])
def test_a_field_of_megabytes_stops_nobody(served: Served, shape: str) -> None:
    """RE2 and the cut: such a field was searched for minutes, under the lock that every thread needs."""
    field = shape * (3 * 1024**2 // len(shape))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "volume_id must have at most 128 bytes"):
        served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=field), timeout=30)
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        served.controller.CreateVolume(
            csi_pb2.CreateVolumeRequest(name="x", parameters={f"k{n}": shape * 90 for n in range(3000)}), timeout=30
        )
    registry = node_registry_pb2_grpc.NodeRegistryStub(served.channel)
    for node in ({"node_id": field}, {"topology": {"zone": field}}, {"connector_json": '"' + field}):
        request = node_registry_pb2.RegisterNodeRequest(
            **{"node_id": "n", "connector_json": "{}", "public_key": b"x" * 32, **node}
        )
        with pytest.raises(grpc.RpcError) as caught:
            registry.RegisterNode(request, timeout=30)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
        assert len(error.details()) < 1200
    served.wait_until_ready()
    assert max(len(line) for line in served.log.read_text().splitlines()) < 150_000


def test_console_lines_have_no_control_characters(tmp_path: Path) -> None:
    """Neither in a line's fields, nor in its text: a terminal would obey them."""
    (port,) = free_ports(1)
    environment = {"CINDERBOX_HTTP_ADDRESS": f"127.0.0.1:{port}"}
    with serving(tmp_path, persistence=MEMORY, mode="controller", environment=environment) as served:
        served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id="a\x1b[2J\x9b\u202e\nforged line\r"))
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /\x1b[2J\x9b HTTP/1.0\r\n\r\n")
            while client.recv(4096):
                pass  # the line is written before the answer ends
    log = served.log.read_bytes().decode()
    assert r"a\x1b[2J\x9b\u202e\nforged line\r" in log
    assert r"GET /\x1b[2J\x9b HTTP" in log
    assert not [line for line in log.split("\n") if not line.isprintable() or line.startswith("forged")]


def test_tcp(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with serving(tmp_path, persistence=MEMORY, mode="controller") as first:
        for host in ("127.0.0.1", "[::1]"):
            first.stop()
            first.start(wait=False, CSI_ENDPOINT=f"tcp://{host}:{port}")
            with grpc.insecure_channel(f"{host}:{port}") as channel:
                identity = csi_pb2_grpc.IdentityStub(channel)
                answer = identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest(), wait_for_ready=True, timeout=30)
            assert answer.name == "csi.cinderbox.io"


@pytest.mark.root
def test_a_socket_that_nobody_serves_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, persistence=MEMORY) as served:
        served.kill()
        assert served.socket.exists()
        served.start()
        served.wait_until_ready()


@pytest.mark.parametrize("what", ["a file", "a node's socket"])
def test_a_socket_in_use_is_left_alone(tmp_path: Path, what: str) -> None:
    registry = {"CINDERBOX_REGISTRY_ENDPOINT": f"unix://{tmp_path}/registry.sock"}
    first = Served(tmp_path, mode="node", environment=registry)
    second = Served(tmp_path, mode="node", environment=registry | {"CSI_ENDPOINT": f"unix://{first.socket}"}, name="b")
    try:
        if what == "a file":
            first.socket.write_text("precious")
        else:
            first.start()
        second.start(wait=False)
        assert second.wait_for_exit() == 2
        assert str(first.socket) in second.log_text()
        assert "Traceback" not in second.log_text()
        assert first.socket.exists()
        if what != "a file":
            first.wait_until_ready()
    finally:
        second.close()
        first.close()


@pytest.mark.root
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CSI_MODE": "agent"}, "'controller', 'node' or 'all'"),
        ({"X_CSI_PERSISTENCE_CONFIG": '{"storage": "telepathy"}'}, "no persistence plugin is named 'telepathy'"),
        ({"X_CSI_PERSISTENCE_CONFIG": '{"storage": "db", "connection": "nonsense"}'}, "SQLAlchemy database URL"),
        ({"X_CSI_PERSISTENCE_CONFIG": '{"storage": "memory", "colour": "red"}'}, "colour"),
        ({"CINDERBOX_CINDER_OPTIONS": '{"reserved_percentage": "many"}'}, "reserved_percentage"),
        ({"CINDERBOX_CINDER_CONF": "/no/such/cinder.conf"}, "/no/such/cinder.conf"),
        ({"CINDERBOX_SEALING_KEYS": "short"}, "key 1 of CINDERBOX_SEALING_KEYS"),
    ],
)
def test_settings_that_cannot_work_end_the_process(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    served = Served(tmp_path, environment=environment)
    try:
        served.start(wait=False)
        assert served.wait_for_exit() == 2
    finally:
        served.close()
    assert words in served.log_text()
    assert "Traceback" not in served.log_text()


@pytest.mark.root
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("no/such/records.sqlite", "does not exist; make it first"),
        ("text", "is no SQLite database"),
        ("", "cannot be read and written"),
        ("/sys/kernel/records.sqlite", "cannot be created"),
    ],
)
def test_a_database_that_cannot_be_opened_ends_the_process(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "text").write_text("precious text")
    path = tmp_path / place
    environment = {"X_CSI_PERSISTENCE_CONFIG": json.dumps({"storage": "db", "connection": f"sqlite:///{path}"})}
    served = Served(tmp_path, environment=environment)
    try:
        served.start(wait=False)
        assert served.wait_for_exit() == 2
    finally:
        served.close()
    assert len([line for line in served.log_text().splitlines() if str(path) in line and words in line]) == 1
    assert "Traceback" not in served.log_text()
    assert (tmp_path / "text").read_text() == "precious text"


@pytest.mark.root
@pytest.mark.root
@pytest.mark.parametrize("mode", ["controller", "all"])
@pytest.mark.parametrize("setting", ["STATE_DIR", "FILE_LOCKS_PATH", "ENDPOINT"])
def test_a_folder_that_is_none_ends_the_process(tmp_path: Path, setting: str, mode: str) -> None:
    (tmp_path / "text").write_text("precious text")
    path = tmp_path / "text" / "in a file"
    value = f"unix://{path}" if setting == "ENDPOINT" else str(path)
    served = Served(tmp_path, mode=mode, persistence=MEMORY, environment={f"CINDERBOX_{setting}": value})
    try:
        served.start(wait=False)
        assert served.wait_for_exit() == 2
    finally:
        served.close()
    errors = [line for line in served.log_text().splitlines() if "[error" in line]
    assert len(errors) == 1
    assert "cannot start" in errors[0]
    assert str(tmp_path / "text") in errors[0]
    assert "Traceback" not in served.log_text()


@pytest.mark.root
@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_a_process_whose_standard_streams_are_closed_serves(tmp_path: Path, closed: str) -> None:
    """What it opens next must not get their numbers: what is printed would be written into it."""
    served = Served(tmp_path, persistence=MEMORY, prefix=("sh", "-c", f'exec "$@" {closed}', "sh"))
    try:
        served.start()
        assert served.process is not None
        create(served, "one")
        for number in (0, 1, 2):
            if str(number) in closed:
                assert Path(f"/proc/{served.process.pid}/fd/{number}").readlink() == Path("/dev/null")
        assert served.stop() == 0
    finally:
        served.close()


def test_a_backend_that_cannot_start_stops_nobody(tmp_path: Path) -> None:
    backends = [
        {"name": "good", "driver": "loop", "loop_volumes_dir": str(tmp_path / "volumes")},
        {"name": "bad", "driver": "loop", "loop_volumes_dir": "relative"},
        {"name": "wrong", "driver": "loop", "loop_volumes_dir": str(tmp_path / "x"), "loop_volumes_dirr": "x"},
    ]
    environment = {"X_CSI_BACKEND_CONFIG": json.dumps(backends), "CINDERBOX_LOG_LEVEL": "info"}
    with serving(tmp_path, persistence=MEMORY, environment=environment) as served:
        assert create(served, "pvc-1").volume_context["cinderbox.io/backend"] == "good"
        wait_until(lambda: "did you mean loop_volumes_dir" in served.log_text(), served.log_text)
        wait_until(lambda: "must be an absolute path" in served.log_text(), served.log_text)
        assert "Traceback" not in served.log_text()


def test_probe_says_that_no_backend_is_up(tmp_path: Path) -> None:
    served = Served(tmp_path, persistence=MEMORY, backend={"loop_volumes_dir": "relative"})
    try:
        served.start(wait=False)
        wait_until(lambda: "must be an absolute path" in served.log_text(), served.log_text)
        assert served.identity.Probe(csi_pb2.ProbeRequest(), wait_for_ready=True, timeout=30).ready.value is False
        with fails(grpc.StatusCode.UNAVAILABLE):
            create(served, "pvc-1")
    finally:
        served.close()


@pytest.mark.root
@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_lets_operations_finish(tmp_path: Path, signals: int) -> None:
    with serving(
        tmp_path,
        persistence={"storage": "db", "connection": f"sqlite:///{tmp_path}/m.sqlite"},
        driver="tests.crash.drivers.GatedDriver",
        environment={"TEST_GATE": str(tmp_path)},
    ) as served:
        with ThreadPoolExecutor(1) as pool:
            creating = pool.submit(create, served, "pvc-1")
            wait_until((tmp_path / "reached").exists, served.log_text)
            assert served.process is not None
            for _ in range(signals):
                served.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "operations are running" in served.log_text(), served.log_text)
            (tmp_path / "open").touch()
            volume = creating.result()
        assert served.wait_for_exit() == 0
        served.start()
        listed = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
        assert [entry.volume.volume_id for entry in listed] == [volume.volume_id]


def test_a_signal_that_another_thread_gets_ends_the_process(served: Served) -> None:
    """As one does that comes when the main thread is about to wait: nothing interrupts that thread."""
    assert served.process is not None
    process = served.process.pid
    thread = max(int(task.name) for task in Path(f"/proc/{process}/task").iterdir())
    assert thread != process
    assert ctypes.CDLL(None).tgkill(process, thread, signal.SIGTERM) == 0
    assert served.wait_for_exit() == 0


@pytest.mark.root
def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with serving(
        tmp_path,
        persistence=MEMORY,
        driver="tests.crash.drivers.GatedDriver",
        environment={"TEST_GATE": str(tmp_path), "CINDERBOX_STOP_SECONDS": "0.5"},
    ) as served:
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(create, served, "pvc-1")
            wait_until((tmp_path / "reached").exists, served.log_text)
            assert served.stop() == 4  # the gate is still closed
            with pytest.raises(grpc.RpcError):
                lost.result()
        assert "is still running after" in served.log_text()


def test_metadata_of_one_process_has_one_controller_on_a_host(tmp_path: Path) -> None:
    """Two servers with one state directory: the second waits, with its socket closed, for the first one's lock."""
    first = Served(tmp_path, persistence=MEMORY, mode="controller")
    second = Served(tmp_path, persistence=MEMORY, mode="controller", name="second")
    try:
        first.start()
        second.start(wait=False, CINDERBOX_STATE_DIR=str(first.state))
        wait_until(lambda: "another controller holds" in second.log_text(), second.log_text)
        assert not second.socket.exists()
        assert first.stop() == 0
        second.wait_until_ready()
    finally:
        second.close()
        first.close()


@pytest.mark.root
def test_storage_out_of_reach_does_not_keep_reads_waiting(tmp_path: Path) -> None:
    with (
        serving(
            tmp_path,
            persistence=MEMORY,
            driver="tests.crash.drivers.GatedDriver",
            environment={"TEST_GATE": str(tmp_path), "CINDERBOX_WORKERS": "2"},
        ) as served,
        ThreadPoolExecutor(8) as pool,
    ):
        creating = [pool.submit(create, served, f"pvc-{number}") for number in range(8)]
        wait_until((tmp_path / "reached").exists, served.log_text)
        for _ in range(20):
            served.wait_until_ready()
            assert list(served.controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=30).entries) == []
        (tmp_path / "open").touch()
        assert len({future.result().volume_id for future in creating}) == 8
