"""What hangs: seen in ``cinderbox operations``, answered in time, and nobody else's trouble."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.protocol import csi_pb2, operations_pb2, operations_pb2_grpc
from tests.support.csi import GIB, MOUNT, in_time
from tests.support.life import Life
from tests.support.polling import wait_until
from tests.support.serving import Served, serving

Code = grpc.StatusCode
SECRET = "hunter2-of-the-array"


class Gate:
    """A program that waits in front of a closed gate, as one does whose storage is out of reach."""

    def __init__(self, folder: Path) -> None:
        self._pipe = folder / "gate"
        self.program = folder / "array-tool"
        os.mkfifo(self._pipe)
        self.then("exit 0")
        self.program.chmod(0o755)

    def then(self, command: str) -> None:
        """What the program does when it comes through; nothing if not told otherwise."""
        self.program.write_text(f"#!/bin/sh\n[ -p {self._pipe} ] && read line < {self._pipe}\n{command}\n")

    def open(self) -> None:
        """Let all through that wait, and who comes later."""
        if self._pipe.is_fifo():
            waiting = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
            self._pipe.unlink()
            os.close(waiting)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.open()


@pytest.fixture
def served(tmp_path: Path, gate: Gate) -> Iterator[Served]:
    """A backend whose driver hangs for volumes of a name with ``hung``, for two calls at once; and another one."""
    backends = [
        {
            "name": "slow",
            "driver": "tests.crash.drivers.ToolDriver",
            "loop_volumes_dir": str(tmp_path / "slow"),
            "max_concurrent_operations": 2,
        },
        {"name": "other", "driver": "loop", "loop_volumes_dir": str(tmp_path / "other")},
    ]
    environment = {
        "X_CSI_BACKEND_CONFIG": json.dumps(backends),
        "TEST_TOOL": f"{gate.program} create --password {SECRET}",
        "CINDERBOX_STOP_SECONDS": "0.5",
        "CINDERBOX_WORKERS": "8",
    }
    with serving(tmp_path, environment=environment) as served:
        wait_until(lambda: served.log.read_text().count("is ready after") == 2, served.log_text)
        yield served
        gate.open()


def request(name: str, backend: str = "slow") -> csi_pb2.CreateVolumeRequest:
    return csi_pb2.CreateVolumeRequest(
        name=name,
        capacity_range=csi_pb2.CapacityRange(required_bytes=GIB),
        volume_capabilities=[MOUNT],
        parameters={"backend": backend},
    )


def operations(served: Served) -> list[dict[str, Any]]:
    """What people see. A process each time: ``running`` is for waiting."""
    found: list[dict[str, Any]] = json.loads(served.command("operations", "-o", "json"))
    return found


def running(served: Served) -> list[operations_pb2.Operation]:
    stub = operations_pb2_grpc.OperationsStub(served.channel)
    return list(stub.ListOperations(operations_pb2.ListOperationsRequest(), timeout=30).operations)


def hang(served: Served, *names: str) -> list[Any]:
    """Calls that are in the driver's command when this returns, each with its own id, for 3 seconds."""
    calls = [
        served.controller.CreateVolume.future(request(name), timeout=3, metadata=[("x-request-id", f"id of {name}")])
        for name in names
    ]
    wait_until(lambda: sum("array-tool" in found.command for found in running(served)) == len(names), served.log_text)
    return calls


def status_of(call: Any) -> tuple[Code, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


def test_a_command_of_a_driver_hangs(served: Served, gate: Gate) -> None:
    before = served.controller.CreateVolume(request("before"), timeout=30).volume.volume_id
    (first,) = hang(served, "hung")

    (found,) = operations(served)
    assert (found["what"], found["name"], found["backend"]) == ("CreateVolume", "hung", "slow")
    assert found["resource"].startswith("volume/")
    assert (found["step"], found["request_id"]) == ("driver.create_volume", "id of hung")
    assert found["command"].endswith(f"{gate.program} create --password ***")
    assert SECRET not in served.command("operations")
    assert "CreateVolume" in served.command("operations")

    # Its callers get answers in time, and see how long it has been going on.
    assert status_of(first.result)[0] is Code.DEADLINE_EXCEEDED
    code, message = status_of(
        lambda: in_time(lambda timeout: served.controller.CreateVolume(request("hung"), timeout=timeout))
    )
    assert (code, "volume-name/hung has been running for" in message) == (Code.ABORTED, True), message
    wait_until(lambda: running(served)[0].overdue_seconds >= 1, served.log_text)
    (found,) = operations(served)
    assert found["overdue_seconds"] >= 1
    assert found["age_seconds"] >= 3

    # Nobody else notices.
    for backend in ("slow", "other"):
        made = served.controller.CreateVolume(request(f"beside-{backend}", backend), timeout=20).volume
        served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=made.volume_id), timeout=20)
    served.wait_until_ready()
    listed = served.controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=30).entries
    assert [entry.volume.volume_id for entry in listed] == [before]

    repeat = served.controller.CreateVolume.future(request("hung"), timeout=60)
    wait_until(lambda: running(served)[0].waiting_calls == 1, served.log_text)
    gate.open()
    made = repeat.result().volume
    assert found["resource"] == f"volume/{made.volume_id}"
    assert served.controller.CreateVolume(request("hung"), timeout=20).volume == made
    assert running(served) == []


def test_all_places_of_a_backend_hang(served: Served, gate: Gate) -> None:
    before = served.controller.CreateVolume(request("before"), timeout=30).volume.volume_id
    hang(served, "hung-1", "hung-2")
    with ThreadPoolExecutor(20) as pool:
        # More than there are threads in the server, for as long as their callers wait.
        storm = [
            pool.submit(status_of, lambda n=n: served.controller.CreateVolume(request(f"more-{n}"), timeout=2))
            for n in range(20)
        ]
        wait_until(lambda: any(found.step == "backend.wait_for_slot" for found in running(served)), served.log_text)
        served.wait_until_ready()
        assert {code for code, _ in (answer.result() for answer in storm)} <= {
            Code.UNAVAILABLE,
            Code.DEADLINE_EXCEEDED,
        }
    for backend in ("other", "other"):
        served.controller.CreateVolume(request(f"beside-{backend}", backend), timeout=20)

    code, message = status_of(
        lambda: in_time(lambda timeout: served.controller.CreateVolume(request("third"), timeout=timeout))
    )
    assert code is Code.UNAVAILABLE, message
    assert "backend slow is busy: 2 operations call its driver (max_concurrent_operations), the longest for" in message
    deletion = csi_pb2.DeleteVolumeRequest(volume_id=before)
    assert (
        status_of(lambda: in_time(lambda timeout: served.controller.DeleteVolume(deletion, timeout=timeout)))[0]
        is Code.UNAVAILABLE
    )
    # Who waited in vain left nothing.
    volumes = {row["name"]: row["status"] for row in json.loads(served.command("volumes", "list", "-o", "json"))}
    assert volumes == {"before": "available", "hung-1": "creating", "hung-2": "creating", "beside-other": "available"}

    gate.open()
    for name in ("third", "hung-1", "hung-2"):
        served.controller.CreateVolume(request(name), timeout=30)
    served.controller.DeleteVolume(deletion, timeout=30)
    assert running(served) == []
    assert json.loads(served.command("volumes", "leftovers", "-o", "json")) == []


def test_a_stop_does_not_wait_for_a_command(served: Served) -> None:
    hang(served, "hung-1", "hung-2")
    waiting = served.controller.CreateVolume.future(request("third"), timeout=60)
    wait_until(lambda: any(found.step == "backend.wait_for_slot" for found in running(served)), served.log_text)
    assert served.stop() == 4  # the command still hangs
    assert status_of(waiting.result)[0] in (Code.UNAVAILABLE, Code.CANCELLED)


@pytest.mark.root
def test_a_command_of_a_node_hangs(tmp_path: Path, gate: Gate) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mkfs.xfs").symlink_to(gate.program)
    gate.then(f'PATH="${{PATH#{programs}:}}" exec mkfs.xfs "$@"')
    with serving(tmp_path, environment={"PATH": f"{programs}:{os.environ['PATH']}"}) as served:
        life = Life(served)
        life.run("create", "publish")
        with ThreadPoolExecutor(1) as pool:
            staging = pool.submit(life.stage)
            wait_until(lambda: any("mkfs.xfs" in found.command for found in running(served)), served.log_text)
            (found,) = running(served)
            assert (found.what, found.resource) == ("NodeStageVolume", f"volume/{life.volume.volume_id}")
            assert found.step == "command.mkfs.xfs"
            gate.open()
            staging.result()
        assert running(served) == []
        life.run("publish_node", "write", "read", "unpublish_node", "unstage", "unpublish", "delete")


def test_a_node_says_what_it_does_and_a_process_that_is_not_there_does_not(tmp_path: Path) -> None:
    registry = {"CINDERBOX_REGISTRY_ENDPOINT": f"unix://{tmp_path}/registry.sock"}
    with serving(tmp_path, mode="node", environment=registry) as served:
        assert operations(served) == []
        served.kill()
        served.command("operations", expect=1)
