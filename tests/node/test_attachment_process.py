"""The process that os-brick runs in, and its forks, as they are killed, hang, and come to rest."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from csi_plugin.node import attachment_process
from csi_plugin.node.attachment_process import AttachmentProcess
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.protocol.errors import RpcError
from tests.support.claims import attachment_held
from tests.support.polling import wait_until

pytestmark = pytest.mark.root

PUBLICATION = "worker-1/volume-1"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[AttachmentProcess]:
    (tmp_path / "state").mkdir()
    yield AttachmentProcess(
        NodeConfiguration(node_id="worker-1", state_dir=tmp_path / "state", locks_dir=tmp_path / "locks")
    )
    if pid := the_process():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: the_process() is None, lambda: "it is still there")


@pytest.fixture
def in_background() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor() as executor:
        yield executor.submit


def children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found += map(int, (thread / "children").read_text().split())
    return found


def the_process() -> int | None:
    """The attachment process, of which the tests leave none."""
    for pid in children(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if "csi_plugin.attachment" in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
    return None


def detach(process: AttachmentProcess) -> Any:
    return process.run("detach", sealed="", publication=PUBLICATION, device_info=None, identity="", encrypted=False)


def waiting_fork() -> int:
    """The fork that waits for the volume's lock, and so has told that it is there."""

    def forks() -> list[int]:
        pid = the_process()
        return [child for child in (children(pid) if pid else []) if waits_for_lock(child)]

    wait_until(lambda: bool(forks()), lambda: "no fork waits")
    return forks()[0]


def waits_for_lock(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        return any(file.readlink().name == "attachment.lock" for file in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_tasks_share_a_process_that_ends_when_it_is_idle(
    process: AttachmentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = process.run("identify", my_ip="192.0.2.7")
    pid = the_process()
    assert pid is not None
    monkeypatch.setattr(attachment_process, "_IDLE_SECONDS", 0.01)
    assert process.run("identify", my_ip="192.0.2.7") == first
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), lambda: "it is still there")
    assert process.run("identify", my_ip="192.0.2.7") == first


def test_an_address_that_is_given_by_a_name_is_looked_up_here(process: AttachmentProcess) -> None:
    """The controller takes addresses alone: a name could be another node's."""
    assert process.run("identify", my_ip="localhost")["connector"]["ip"] in ("127.0.0.1", "::1")
    with pytest.raises(Exception, match=r"storage_network_ip: storage-1\.invalid has no address"):
        process.run("identify", my_ip="storage-1.invalid")


def test_tasks_at_once(process: AttachmentProcess, in_background: Callable[..., Future[Any]]) -> None:
    found = [in_background(process.run, "identify", my_ip=f"192.0.2.{number}") for number in range(1, 17)]
    assert [future.result()["connector"]["ip"] for future in found] == [f"192.0.2.{number}" for number in range(1, 17)]


def test_process_that_was_killed_is_started_again(process: AttachmentProcess, caplog: pytest.LogCaptureFixture) -> None:
    first = process.run("identify", my_ip=None)
    pid = the_process()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert process.run("identify", my_ip=None) == first
    assert "was killed; another one is started" in caplog.text


def test_task_goes_on_when_the_process_is_killed(
    process: AttachmentProcess, tmp_path: Path, in_background: Callable[..., Future[Any]]
) -> None:
    process.run("identify", my_ip=None)
    with attachment_held(tmp_path / "locks", PUBLICATION):
        waiting = in_background(detach, process)
        waiting_fork()
        pid = the_process()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert process.run("identify", my_ip=None)
        assert not waiting.done()
    with pytest.raises(attachment_process.ConnectionOutdated):
        waiting.result()


def test_task_that_is_killed(
    process: AttachmentProcess, tmp_path: Path, in_background: Callable[..., Future[Any]]
) -> None:
    with attachment_held(tmp_path / "locks", PUBLICATION):
        waiting = in_background(detach, process)
        os.kill(waiting_fork(), signal.SIGKILL)
        with pytest.raises(RpcError, match="detach was killed") as error:
            waiting.result()
    assert error.value.code is StatusCode.INTERNAL


def test_task_that_is_called_off(
    process: AttachmentProcess, tmp_path: Path, in_background: Callable[..., Future[Any]]
) -> None:
    """Nothing of it goes on, and the next one begins at once."""
    process.run("identify", my_ip=None)
    interruption = attachment_process.Interruption()
    with attachment_held(tmp_path / "locks", PUBLICATION):
        waiting = in_background(
            process.run,
            "find",
            interruption=interruption,
            sealed="",
            publication=PUBLICATION,
        )
        waiting_fork()
        interruption.call_off()
        with pytest.raises(RpcError, match="gives way") as error:
            waiting.result()
    assert error.value.code is StatusCode.ABORTED
    with pytest.raises(attachment_process.ConnectionOutdated):
        detach(process)


def test_task_that_waits_too_long_is_killed(
    process: AttachmentProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for others is not its own time, of which it has less than none here."""
    monkeypatch.setattr(attachment_process, "_WAITING_SECONDS", 3)
    with attachment_held(tmp_path / "locks", PUBLICATION), pytest.raises(RpcError, match="has waited 3 s for another"):
        detach(process)
    pid = the_process()
    assert pid is not None
    wait_until(lambda: not children(pid), lambda: "the fork is still there")


def test_task_that_hangs_is_killed(process: AttachmentProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment_process, "_TASK_SECONDS", 3)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "cat").write_text("#!/bin/sh\nexec /bin/sleep infinity")
    (tmp_path / "cat").chmod(0o755)
    with pytest.raises(RpcError, match="did not end within 3 s"):
        process.run("identify", my_ip=None)
    pid = the_process()
    assert pid is not None
    wait_until(lambda: not children(pid), lambda: "the fork is still there")
